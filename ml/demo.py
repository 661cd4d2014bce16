"""`menagerie demo`: every DAG once through the real scheduler, followed on the terminal; results at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from ml import animals, stack
from ml.data.sample import draw_samples
from ml.environment import USER, password
from ml.errors import MenagerieError, ServiceError
from ml.follower import Follower
from ml.outcome import results
from ml.rest import Airflow
from ml.settings import Settings

VALIDATE, RETRAIN = "validate_images", "retrain_"
GRACE = 8.0
"""Seconds in which a DAG that waits for a dataset starts, if the dataset has changed."""


def demo(settings: Settings, photos: Path | None, console: Console) -> None:
    """Run every DAG on `photos`, or on drawings made for it; print the results; end what was started.

    Raises:
        MenagerieError: a stack runs already, doesn't start, or ends early; or the last run of a DAG failed, and
            the end of the log was printed.
    """
    settings = settings.model_copy(update={"photos_root": str((photos or settings.home / "drawings").absolute())})
    process = stack.start(settings, console)
    try:
        if photos is None:
            draw(settings.photos, console)
        console.print(
            f"To watch in Airflow: {settings.airflow_link}, user {USER}, password {password(settings)}",
            highlight=False,
            soft_wrap=True,
        )
        _run_all(settings, console)
        console.print(results(settings), highlight=False, soft_wrap=True)
        console.print("To look around in Airflow and MLflow: make up", highlight=False)
    except ServiceError as error:
        if why := stack.reason(settings):
            raise ServiceError(f"The stack ended early: {why}") from error
        raise
    finally:
        with stack.waiting(console, "Ending"):
            stack.stop(settings, process)


def join(settings: Settings, preset: str, console: Console) -> None:
    """Run every DAG of a stack that runs already, on the photos that it has; print the results; leave it running.

    Raises:
        MenagerieError: the stack isn't healthy, or the last run of a DAG failed.
    """
    stack.join(settings, console)
    _run_all(settings, console, preset)
    console.print(results(settings), highlight=False, soft_wrap=True)


def _run_all(settings: Settings, console: Console, preset: str = "") -> None:
    """Run every DAG once, and follow it; at `preset`, if it isn't that which the stack was started with."""
    airflow = stack.client(settings)
    dags = _dags(airflow, settings)
    retrains = [dag for dag in dags if dag.startswith(RETRAIN)]
    others = [dag for dag in dags if dag not in (VALIDATE, *retrains)]
    chosen: dict[str, dict[str, Any]] = {dag: {"preset": preset} if preset else {} for dag in retrains}
    for name, animal in animals.read(settings.animals).items():
        if animal.require_approval and (conf := chosen.get(f"{RETRAIN}{name}")) is not None:
            conf["require_approval"] = False
            console.print(
                f"{name}: a demo waits for nobody, so its model may become champion without an approval, although "
                f"{settings.animals} has require_approval = true.",
                highlight=False,
                soft_wrap=True,
            )
    # A DAG that is on while the photos are validated starts by itself if its dataset has changed; without `chosen`.
    by_themselves = [dag for dag in retrains if not chosen[dag]]
    with Follower(airflow, settings, console, [VALIDATE, *retrains, *others]) as follower:
        with _switched_on(airflow, [VALIDATE, *by_themselves]):
            follower.follow([VALIDATE], grace=0)
            with _switched_on(airflow, retrains):
                follower.follow(retrains, GRACE if by_themselves else 0, chosen)
        for dag in others:
            with _switched_on(airflow, [dag]):
                follower.follow([dag], grace=0)


def draw(folder: Path, console: Console) -> None:
    """Make the sample drawings in `folder`, with progress on the terminal; those that are there stay."""
    with progress_bar(console, "Drawing", MofNCompleteColumn()) as progress:
        count = draw_samples(folder, progress=progress)
    console.print(f"{count} drawings of animals are in {folder}", highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console, text: str, amount: ProgressColumn) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on the terminal during the block, and yield what moves it: called with how much is done, of what."""
    columns = (TextColumn("{task.description}"), BarColumn(40), amount, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _dags(airflow: Airflow, settings: Settings) -> list[str]:
    """Return the ids of the DAGs in alphabetical order.

    Raises:
        MenagerieError: a file can't be read, or there is no `validate_images`.
    """
    for error in airflow.all("importErrors", "import_errors"):
        raise MenagerieError(f"Airflow can't read {error['filename']}:\n{error['stack_trace']}")
    dags = sorted(dag["dag_id"] for dag in airflow.all("dags", "dags", exclude_stale=True))
    if VALIDATE not in dags:
        raise MenagerieError(f"Expected the DAG {VALIDATE} in {settings.dags}. Received: {', '.join(dags) or 'none'}")
    return dags


@contextmanager
def _switched_on(airflow: Airflow, dags: list[str]) -> Iterator[None]:
    """Switch `dags` on, and in the end those off again that were off: a demo leaves no schedule running."""
    off = [dag for dag in dags if airflow.get(f"dags/{dag}")["is_paused"]]
    try:
        for dag in off:
            airflow.patch(f"dags/{dag}", {"is_paused": False})
        yield
    finally:
        for dag in off:
            with suppress(ServiceError):  # the stack may have ended
                airflow.patch(f"dags/{dag}", {"is_paused": True})
