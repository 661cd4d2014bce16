"""Validation: from folders of photos to the accepted dataset of each animal."""

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

from ml import animals, progress
from ml.data import manifest, mirror, scanning, store, validation
from ml.data.files import replacing
from ml.errors import DataError, ServiceError
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages.job import animal_named
from ml.tracking import StageRun, Tracker

STAGE = "validate"
SCANS = "validate_images"
"""The experiment that keeps the scans: they are of all animals."""
KEPT_SCANS = 5

log = logging.getLogger(__name__)


def scan(params: ValidateParams, settings: Settings, dag_run: DagRun | None = None) -> dict[str, str]:
    """Read every photo below the photo root, once for all animals; return where, and the name of the scan's table.

    That of a DAG run is a run in MLflow, which tells how far it is.
    """
    root = settings.root(params.photos)
    for fault in animals.all_faults(settings.animals):
        log.warning("left out, the other animals go on: %s", fault)
    with _recorded(root, params, settings, dag_run) as run:
        table = _read(root, settings)
        unreadable = table.loc[table.problem.notna(), ["path", "problem"]]
        if run:
            run.log({"n_photos": float(len(table)), "n_unreadable": float(len(unreadable))})
            run.table("unreadable", unreadable)
    for path, problem in list(zip(unreadable.path, unreadable.problem, strict=True))[: validation.NAMED]:
        log.warning("%r: %s", path, problem)
    folder = settings.home / "scans"
    name = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]
    with replacing(folder / f"{name}.parquet") as aside:
        table.to_parquet(aside)
    for old in sorted(folder.glob("*.parquet"), key=lambda file: file.stat().st_mtime)[:-KEPT_SCANS]:
        store.remove(old)
        old.unlink(missing_ok=True)
    log.info("scan: %d photos below %s, %d of them can't be used", len(table), root, len(unreadable))
    return {"root": root, "scan": name}


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


def _read(root: str, settings: Settings) -> pd.DataFrame:
    started = time.monotonic()

    def heard(done: int, total: int) -> None:
        progress.tell("photo", done, total)
        if done % 1000 == 0 or done == total:
            log.info("scan: %d of %d photos, %.0f s", done, total, time.monotonic() - started)

    return scanning.scan(mirror.folder(root), settings.cache, heard)


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
    run_id = ""
    # Data Docs show the newest validation; those that changed something, or failed, are kept in MLflow.
    shutil.rmtree(docs, ignore_errors=True)
    try:
        drafted = manifest.draft(table, animal_named(animal, settings))
        reasons, _ = validation.refuse_photos(drafted, docs, params.smallest_side)
        made = manifest.accept(drafted, reasons, previous, params.folds)
        warnings, outcome = validation.require_dataset(made, previous, docs, params.fewest_photos, params.most_left_out)
    except DataError as error:
        with suppress(ServiceError):  # what is wrong with the photos is the better news
            _record(animal, before or "none", settings, dag_run, params, None, str(error))
        raise
    for path, reason in sorted(reasons.items()):
        log.warning("left out %r: %s", path, reason)
    for warning in warnings:
        log.warning("%s", warning)
    name = manifest.write(made, scanned["root"], folder)
    metrics = _counts(made)
    if name != before:
        run_id = _record(animal, name, settings, dag_run, params, made, "; ".join(warnings))
    change = "unchanged" if name == before else f"was {before}" if before else "the first"
    summary = (
        f"dataset {name} ({change}): {metrics['n_photos']:.0f} photos, {metrics['n_positives']:.0f} of {animal}, "
        f"{metrics['n_left_out']:.0f} left out, Data Docs at {outcome.page}"
    )
    log.info("%s", summary)
    return StageResult(STAGE, animal, name, run_id, metrics, (), summary, reused=name == before)


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


def _record(
    animal: str,
    digest: str,
    settings: Settings,
    dag_run: DagRun,
    params: ValidateParams,
    made: pd.DataFrame | None,
    remark: str,
) -> str:
    """Keep a validation that changed something, or failed, as a run in MLflow; return its id."""
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    parent = tracker.open_run(animal, dag_run, digest, params.model_dump())
    with tracker.stage(animal, parent, STAGE, f"{dag_run.run_id}") as stage:
        for page in validation.pages(settings.home / "data_docs" / animal):
            stage.file(page, "data_docs")
        if made is not None:
            stage.log(_counts(made))
            stage.table("left_out", made.loc[made.reason != "", ["path", "label", "class", "reason"]])
            stage.table("manifest", made.drop(columns=["thumbnail", "dhash"]))
    tracker.close_run(parent, made is not None, remark)
    return parent


def _previous(folder: Path, digest: str) -> pd.DataFrame | None:
    """Return the accepted manifest; `None`, with a warning, where it is gone or of another version."""
    try:
        return manifest.load(folder, digest)
    except (DataError, OSError, ValueError) as error:
        log.warning("The photos are dealt into folds anew, and not compared with those accepted before: %s", error)
        return None
