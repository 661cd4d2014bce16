"""The command line: `menagerie up | down | demo | sample | download | score | champion | airflow`."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import DownloadColumn, MofNCompleteColumn

from ml import demo, settings, stack
from ml.data.sources import COURSE_SET_URL, fetch_photos
from ml.environment import adopt, environment
from ml.errors import MenagerieError, ParameterError
from ml.params import PRESETS, ScoreParams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (it failed), 2 (wrong use) or 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    console = Console(markup=False, emoji=False)  # names of folders may look like either
    try:
        options.run(options, settings.read(), console)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except MenagerieError as error:
        print(f"menagerie: {error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    except OSError as error:  # the disk is full, or a file or folder can't be read or written: its name is in it
        print(f"menagerie: {error}", file=sys.stderr)
        return 1
    return 0


def _up(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    (stack.attend if options.foreground else stack.up)(chosen, console)


def _down(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    stack.down(chosen, console)


def _demo(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    if options.running:
        demo.join(chosen, options.preset, console)
        return
    if options.photos and not options.photos.is_dir():
        raise ParameterError(f"Expected a folder of photos. Received: {options.photos}")
    demo.demo(chosen.model_copy(update={"preset": options.preset}), options.photos, console)


def _sample(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    if chosen.photos_url and not options.folder:
        raise ParameterError(f"The photos are at {chosen.photos_url}. Name the folder to draw into.")
    demo.draw((options.folder or chosen.photos).absolute(), console)


def _download(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    if chosen.photos_url and not options.folder:
        raise ParameterError(f"The photos are at {chosen.photos_url}. Name the folder to unpack into.")
    root = (options.folder or chosen.photos).absolute()
    with demo.progress_bar(console, "Fetching", DownloadColumn()) as progress:
        fetch_photos(options.source, root, chosen.cache, progress)
    console.print(f"The photos are in {root}", highlight=False, markup=False, soft_wrap=True)


def _score(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    params = ScoreParams.read(
        {"photos": chosen.root(options.folder), "most_photos": options.most, "prevalence": options.prevalence}
    )
    adopt(chosen)
    with console.status("Loading the champions"), _without_greetings():
        from ml.stages import score_images
    with demo.progress_bar(console, "Scoring", MofNCompleteColumn()) as progress:
        result = score_images.run(params, chosen, heard=progress)
    console.print(result.summary, highlight=False, markup=False, soft_wrap=True)


def _champion(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    adopt(chosen)
    with _without_greetings():
        from ml.tracking import Tracker

        made = Tracker(chosen.mlflow_uri).choose_champion(options.model, options.version)
    said = f"{made} is the champion." if made else f"{options.model} has no champion."
    console.print(said, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _without_greetings() -> Iterator[None]:
    """Keep from the terminal what TensorFlow says when it is loaded; some of it no setting silences."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _airflow(options: argparse.Namespace, chosen: settings.Settings, console: Console) -> None:
    # Airflow's warnings are for who writes DAGs, and would stand above every answer.
    variables = {"PYTHONWARNINGS": "ignore"} | environment(chosen)
    os.execvpe("airflow", ["airflow", *options.arguments], variables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="menagerie",
        description="Retrains image classifiers on a schedule.",
        epilog="Settings come from the environment: MENAGERIE_HOME, _PHOTOS, _ANIMALS, _DAGS, _HOST, "
        "_AIRFLOW_PORT, _MLFLOW_PORT, _PARALLELISM and _PRESET.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    up = commands.add_parser("up", help="start Airflow and MLflow, and leave them running")
    up.add_argument("--foreground", action="store_true", help="stay, and end them on Ctrl-C or SIGTERM: for containers")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="end what `up` started")
    down.set_defaults(run=_down)

    show = commands.add_parser("demo", help="run every DAG once, print the results, end everything")
    what = show.add_mutually_exclusive_group()
    what.add_argument("--photos", type=Path, metavar="DIR", help="photos to use (default: drawings made for it)")
    what.add_argument("--running", action="store_true", help="in the stack that runs already (for containers)")
    show.add_argument("--preset", choices=PRESETS, default="quick", help="how much is tried (default: %(default)s)")
    show.set_defaults(run=_demo)

    sample = commands.add_parser("sample", help="draw the sample photos into a folder")
    sample.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="(default: MENAGERIE_PHOTOS)")
    sample.set_defaults(run=_sample)

    download = commands.add_parser("download", help="fetch an archive of photos (the course's own), and unpack it")
    download.add_argument(
        "source",
        nargs="?",
        default=COURSE_SET_URL,
        help="the URL or the path of a zip or tar archive (default: %(default)s)",
    )
    download.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="(default: MENAGERIE_PHOTOS)")
    download.set_defaults(run=_download)

    score = commands.add_parser("score", help="let every champion judge a folder of new photos")
    score.add_argument(
        "folder", metavar="DIR", help="a folder, or the URL of one in an object store: s3://bucket/folder"
    )
    score.add_argument("--most", type=int, metavar="N", help="draw so many photos at random, if there are more")
    score.add_argument("--prevalence", type=float, metavar="SHARE", help="share of the photos that show the animal")
    score.set_defaults(run=_score)

    champion = commands.add_parser("champion", help="make another version of a model the champion, after loading it")
    champion.add_argument("model", metavar="MODEL", help="a registered model, such as fox-classifier")
    champion.add_argument("version", metavar="VERSION", help="its number; or none: the next run makes a champion")
    champion.set_defaults(run=_champion)

    airflow = commands.add_parser("airflow", help="Airflow's own command line, on this stack", add_help=False)
    airflow.add_argument("arguments", nargs=argparse.REMAINDER)
    airflow.set_defaults(run=_airflow)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
