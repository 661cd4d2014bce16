"""What has been tried before on an animal's photos: earlier champions, and how many models were compared."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd

from ml.errors import DataError, LostError
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Job
from ml.tracking import RegisteredVersion

JUDGES = ("", "floor", "compare", "decide", "promote")
"""Stages that pass the accuracy of others on, or propose no model."""

NEEDED = ("sha256", "fold", "group", "probability")
"""Columns of an out-of-fold table without which a version can't be compared."""

log = logging.getLogger(__name__)


class Looks(NamedTuple):
    """How often the same photos have been used to compare models."""

    models: int
    since: datetime

    def sentence(self, luck: float) -> str:
        """Say it, with how much better than it is the best of so many equally good ones would look."""
        if self.models < 2:
            return ""
        return (
            f"{self.models:,} models have been compared on these photos since {self.since:%Y-%m-%d}: the best of "
            f"{self.models:,} equally good ones would look about {100 * luck:.1f} points better than it is."
        )


def models_compared(job: Job) -> Looks:
    """Count the models that were judged out of fold on photos of which this dataset still has some."""
    judged = [one for one in job.tracker.judged(job.animal) if one.stage.split(" ")[0] not in JUDGES]
    sharing = {digest for digest in {one.digest for one in judged} if _shares(job, digest)}
    counted = [one for one in judged if one.digest in sharing]
    return Looks(len(counted), min((one.at for one in counted), default=datetime.now(UTC)))


def out_of_fold(job: Job, version: RegisteredVersion) -> pd.DataFrame:
    """Return the out-of-fold table of a version.

    Raises:
        LostError: it is gone or damaged.
    """
    table = job.tracker.read_table(version.run_id, OUT_OF_FOLD)
    if missing := [name for name in NEEDED if name not in table]:
        raise LostError(f"The table {OUT_OF_FOLD} of MLflow run {version.run_id} lacks {', '.join(missing)}.")
    return table


def earlier_champions(job: Job, champion: RegisteredVersion) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield version and out-of-fold table of those promoted before; those that are lost are passed over."""
    for version in job.tracker.promoted(job.classifier_name):
        if version.version == champion.version:
            continue
        try:
            table = out_of_fold(job, version)
        except LostError as error:
            log.warning("%s is not compared with, as its predictions out of fold are gone: %s", version, error)
        else:
            yield version.version, table


def _shares(job: Job, digest: str) -> bool:
    """Return whether a dataset has photos in common with today's; if it is gone, that counts as yes."""
    if digest == job.digest:
        return True
    try:
        return bool(job.dataset_of(job.animal, digest).training.sha256.isin(job.dataset.training.sha256).any())
    except DataError:
        return True
