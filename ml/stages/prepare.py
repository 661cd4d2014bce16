"""Preparation: which photos a DAG run trains on, and the MLflow run that keeps what it finds."""

import logging

from ml.data import manifest
from ml.data.files import remove_unused
from ml.errors import DataError, LostError
from ml.results import DagRun
from ml.settings import Settings
from ml.stages.job import Job, P, animal_named
from ml.tracking import Tracker

CHAMPION = "menagerie.champion"
WORK_DAYS = 30
"""How long checkpoints of a DAG run that was killed, and not gone on with, are kept."""

log = logging.getLogger(__name__)


def run(animal: str, params: P, settings: Settings, dag_run: DagRun) -> Job[P]:
    """Open the run on the accepted dataset, with `params` settled.

    Raises:
        DataError: no dataset of the animal was accepted yet.
    """
    animal_named(animal, settings)
    if unused := remove_unused(settings.home / "work", WORK_DAYS):
        log.info("checkpoints of %d DAG runs that nothing went on with for %d days are removed", len(unused), WORK_DAYS)
    params = params.settled()
    folder = settings.datasets / animal
    digest = manifest.accepted(folder)
    if digest is None:
        raise DataError(f"No accepted photos for {animal} yet. Run the DAG validate_images first, and look at its log.")
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    parent = tracker.open_run(animal, dag_run, digest, params.model_dump(), manifest.validation_run(folder))
    job = Job(animal, digest, parent, params, settings)
    log.info("%s, dataset %s: %s", animal, digest, tracker.run_url(job.parent))
    return job


def unchanged(job: Job) -> str | None:
    """Return which earlier run did all of this already, in words, or `None`; if there is one, this run takes over
    what that one found, and is closed.

    It has the same photos, choices and code, and the champion is still the one that it left.
    """
    twin = None if job.params.force else job.tracker.twin(job.animal, job.parent)
    if twin is None or twin.data.tags.get(CHAMPION) != champion_of(job):
        return None
    try:
        job.tracker.adopt(job.parent, twin)
    except LostError as error:
        log.warning("nothing has changed since an earlier run, but its report is gone, so all goes on: %s", error)
        return None
    return (
        f"Nothing has changed since MLflow run {job.tracker.run_url(twin.info.run_id)}: its results are this run's. "
        "To compute all again, tick the param force."
    )


def champion_of(job: Job[P]) -> str:
    """Return the classifier champion's version, empty without one."""
    return job.tracker.champion_number(job.classifier_name)
