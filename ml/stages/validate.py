"""Validation: from folders of photos to the accepted dataset of each animal."""

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ml import animals, progress
from ml.data import cache, manifest, mirror, naming, scanning, scenes, store, validation
from ml.data.files import replacing
from ml.data.listing import PassedOver
from ml.errors import DataError, ServiceError
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages.job import animal_named
from ml.tracking import StageRun, Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGE = "validate"
SCANS = "validate_images"
"""The experiment that keeps the scans: they are of all animals."""
KEPT_SCANS = 5
SHOWN_PAIRS = 12

log = logging.getLogger(__name__)


def scan(params: ValidateParams, settings: Settings, dag_run: DagRun | None = None) -> dict[str, str]:
    """Read every photo below the photo root, once for all animals; return where, and the name of the scan's table.

    That of a DAG run is a run in MLflow, which tells how far it is.
    """
    root = settings.root(params.photos)
    for fault in animals.all_faults(settings.animals):
        log.warning("left out, the other animals go on: %s", fault)
    with _recorded(root, params, settings, dag_run) as run:
        passed = PassedOver()
        table = _read(root, settings, passed)
        unreadable = table.loc[table.problem.notna(), ["path", "problem"]]
        if run:
            counts = {"n_photos": len(table), "n_unreadable": len(unreadable), "n_passed_over": passed.count}
            run.log({name: float(count) for name, count in counts.items()})
            run.table("unreadable", unreadable)
            run.table("passed_over", passed.table())
            run.tag("passed_over", passed.sentence()[:4000])
    for path, problem in list(zip(unreadable.path, unreadable.problem, strict=True))[: validation.NAMED]:
        log.warning("%r: %s", path, problem)
    if passed.count:
        log.warning("scan: %s", passed.sentence())
    folder = settings.home / "scans"
    name = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]
    with replacing(folder / f"{name}.parquet") as aside:
        table.to_parquet(aside)
    for old in sorted(folder.glob("*.parquet"), key=lambda file: file.stat().st_mtime)[:-KEPT_SCANS]:
        store.remove(old)
        old.unlink(missing_ok=True)
    log.info("scan: %d photos below %s, %d of them can't be used", len(table), root, len(unreadable))
    return {"root": root, "scan": name, "passed_over": passed.sentence()[:1000]}


@contextmanager
def _recorded(
    root: str, params: ValidateParams, settings: Settings, dag_run: DagRun | None
) -> Iterator[StageRun | None]:
    if dag_run is None:
        yield None
        return
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    with tracker.closing(tracker.open_run(SCANS, dag_run, "", params.model_dump())) as run:
        run.tag("folder", root)
        yield run


def _read(root: str, settings: Settings, passed: PassedOver) -> pd.DataFrame:
    started = time.monotonic()

    def heard(done: int, total: int) -> None:
        progress.tell("photo", done, total)
        if done % 1000 == 0 or done == total:
            log.info("scan: %d of %d photos, %.0f s", done, total, time.monotonic() - started)

    return scanning.scan(mirror.folder(root, passed), settings.cache, heard, passed)


def run(
    animal: str, scanned: dict[str, str], params: ValidateParams, settings: Settings, dag_run: DagRun
) -> StageResult:
    """Hold one animal's photos against what is expected of them, and write the manifest, not yet accepted.

    Raises:
        DataError: the dataset can't be trained on; the message names the expectation, the photos and what to do.
    """
    folder, docs = settings.datasets / animal, settings.home / "data_docs" / animal
    scan_file = settings.home / "scans" / f"{scanned['scan']}.parquet"
    store.fetch(scan_file)
    table = pd.read_parquet(scan_file)
    before = manifest.accepted(folder)
    previous = _previous(folder, before) if before else None
    run_id, chosen = "", animal_named(animal, settings)
    drafted: pd.DataFrame | None = None
    reasons: dict[str, str] | None = None
    # Data Docs show the newest validation; those that changed something, or failed, are kept in MLflow.
    shutil.rmtree(docs, ignore_errors=True)
    try:
        others = [each for each in animals.read(settings.animals).values() if each.name != animal]
        drafted = manifest.draft(table, chosen, others)
        reasons, _ = validation.refuse_photos(drafted, docs, params.smallest_side)
        _tell(reasons)
        made = manifest.accept(drafted, reasons, previous, params.folds)
        warnings, outcome = validation.require_dataset(made, previous, docs, params.fewest_photos, params.most_left_out)
    except DataError as error:
        if reasons is None and drafted is not None:
            unread = drafted[drafted.problem.notna()]
            _tell(reasons := dict(zip(unread.path, unread.problem, strict=True)))
        told = _why(str(error), reasons or {}, scanned.get("passed_over", ""))
        left_out = None if drafted is None else _left_out(drafted, reasons or {})
        with suppress(ServiceError):  # what is wrong with the photos is the better news
            _record(animal, before or "none", settings, dag_run, params, None, left_out, told)
        raise DataError(told) from error
    negatives = drafted.path[drafted.label == 0].tolist()
    warnings += naming.doubtful(chosen, negatives) + naming.divided(chosen, drafted.path.tolist())
    warnings += scenes.warnings(made, chosen, params.folds)
    both = scenes.contradictions(made)
    if len(both):
        pairs = "; ".join(f"{mine!r} and {other!r}" for mine, other in zip(both.path, both.other_path, strict=True))
        warnings.append(
            f"the same picture is filed both as {animal} and as another, {len(both)} times: {pairs[:1000]}. Correct "
            "the folder of one, or delete it"
        )
    for warning in warnings:
        log.warning("%s", warning)
    name = manifest.write(made, scanned["root"], folder)
    metrics = _counts(made)
    if name != before:
        left_out = _left_out(drafted, reasons)
        run_id = _record(animal, name, settings, dag_run, params, made, left_out, "; ".join(warnings), both)
    change = "unchanged" if name == before else f"was {before}" if before else "the first"
    summary = (
        f"dataset {name} ({change}): {metrics['n_photos']:.0f} photos, {metrics['n_positives']:.0f} of {animal}, "
        f"{metrics['n_left_out']:.0f} left out, Data Docs at {outcome.page}"
    )
    log.info("%s", summary)
    return StageResult(STAGE, animal, name, run_id, metrics, (), summary, reused=name == before)


def _sheet(both: pd.DataFrame, made: pd.DataFrame, animal: str, settings: Settings) -> "Figure":
    """Draw the pairs that are filed both as the animal and as another, side by side, the most alike first."""
    from ml.figures import contact_sheet

    digests = dict(zip(made.path, made.sha256, strict=True))
    paths = both[["path", "other_path"]].head(SHOWN_PAIRS).to_numpy().ravel().tolist()
    kept = [(path, cache.get_pixels(settings.cache, digests[path])) for path in paths]
    shown = [(path, pixels) for path, pixels in kept if pixels is not None]
    title = f"The same picture as {animal} and as another"
    return contact_sheet([pixels for _, pixels in shown], [path for path, _ in shown], title)


def publish(result: StageResult, settings: Settings) -> None:
    """Make the validated dataset the one that training reads, if it isn't already."""
    if not result.reused:
        manifest.publish(settings.datasets / result.animal, result.digest, result.run_id)


def _counts(made: pd.DataFrame) -> dict[str, float]:
    used = manifest.used_rows(made)
    return {
        "n_photos": float(len(used)),
        "n_positives": float(used.label.sum()),
        "n_drawings": float(used.drawn.sum()),
        "n_holdout": float((used.fold < 0).sum()),
        "n_left_out": float((made.reason != "").sum()),
        "n_groups": float(used.group.nunique()),
    }


def _tell(reasons: dict[str, str]) -> None:
    for path, reason in sorted(reasons.items()):
        log.warning("left out %r: %s", path, reason)
    if reasons:
        log.warning("left out: %s", validation.by_reason(reasons))


def _why(said: str, reasons: dict[str, str], passed_over: str) -> str:
    """Return an error's words with those of the photos that don't count: they may be the cause."""
    left_out = f"Left out: {validation.by_reason(reasons)}." if reasons else ""
    passed = f"The scan has {passed_over}." if passed_over else ""
    return " ".join(filter(None, [said, left_out, passed]))


def _left_out(drafted: pd.DataFrame, reasons: dict[str, str]) -> pd.DataFrame:
    rows = drafted.assign(reason=drafted.path.map(reasons))
    return rows.loc[rows.reason.notna(), ["path", "label", "class", "reason"]]


def _record(
    animal: str,
    digest: str,
    settings: Settings,
    dag_run: DagRun,
    params: ValidateParams,
    made: pd.DataFrame | None,
    left_out: pd.DataFrame | None,
    remark: str,
    both: pd.DataFrame | None = None,
) -> str:
    """Keep a validation that changed something, or failed, as a run in MLflow; return its id."""
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    parent = tracker.open_run(animal, dag_run, digest, params.model_dump())
    with tracker.stage(animal, parent, STAGE, f"{dag_run.run_id}") as stage:
        for page in validation.pages(settings.home / "data_docs" / animal):
            stage.file(page, "data_docs")
        if left_out is not None:
            stage.table("left_out", left_out)
        if made is not None:
            stage.log(_counts(made))
            stage.table("manifest", made.drop(columns=["thumbnail", "look"]))
        if made is not None and both is not None and len(both):
            stage.table("contradictions", both)
            stage.figure("contradictions", _sheet(both, made, animal, settings))
    tracker.close_run(parent, made is not None, remark)
    return parent


def _previous(folder: Path, digest: str) -> pd.DataFrame | None:
    """Return the accepted manifest; `None`, with a warning, where it is gone or of another version."""
    try:
        return manifest.load(folder, digest)
    except (DataError, OSError, ValueError) as error:
        log.warning("The photos are dealt into folds anew, and not compared with those accepted before: %s", error)
        return None
