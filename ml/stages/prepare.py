"""Preparation: which photos a DAG run trains on, and the MLflow run that keeps what it finds."""

import logging

from ml.data import manifest
from ml.errors import DataError
from ml.params import RetrainParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages.job import Job, animal_named
from ml.tracking import Tracker

log = logging.getLogger(__name__)


def run(animal: str, params: RetrainParams, settings: Settings, dag_run: DagRun) -> Job:
    """Open the run on the accepted dataset, with `params` settled.

    Raises:
        DataError: no dataset of the animal was accepted yet.
    """
    animal_named(animal, settings)
    params = params.settled()
    folder = settings.datasets / animal
    digest = manifest.accepted(folder)
    if digest is None:
        raise DataError(f"No accepted photos for {animal} yet. Run the DAG validate_images first, and look at its log.")
    tracker = Tracker(settings.mlflow_uri)
    parent = tracker.open_run(animal, dag_run, digest, params.model_dump(), manifest.validation_run(folder))
    job = Job(animal, digest, parent, params, settings)
    log.info("%s, dataset %s: %s", animal, digest, tracker.run_url(job.parent))
    return job
