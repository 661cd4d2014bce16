"""What every stage of a DAG run is handed, and how a stage's work is done once."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from ml import animals, crossvalidation, fingerprint
from ml.animals import Animal
from ml.data import datasets, store
from ml.data.datasets import Dataset
from ml.errors import ParameterError
from ml.params import GanParams, RetrainParams
from ml.results import Candidate, StageResult
from ml.settings import Settings
from ml.tracking import StageRun, Tracker, work_key

P = TypeVar("P", RetrainParams, GanParams, default=RetrainParams)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """What a stage's work gives; `perform` adds where it is kept."""

    summary: str
    metrics: dict[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Job(Generic[P]):
    """One DAG run's view of one animal: its photos, its choices, its MLflow run. A plain `Job` is a retraining's."""

    animal: str
    digest: str
    parent: str
    """The MLflow run of the DAG run."""
    params: P
    settings: Settings

    @cached_property
    def tracker(self) -> Tracker:
        return Tracker(self.settings.mlflow_uri, self.settings.mlflow_link)

    @cached_property
    def dataset(self) -> Dataset:
        return self.dataset_of(self.animal, self.digest)

    @property
    def classifier_name(self) -> str:
        return f"{self.animal}-classifier"

    @property
    def gan_name(self) -> str:
        return f"{self.animal}-gan"

    def dataset_of(self, animal: str, digest: str | None = None) -> Dataset:
        """Return a dataset version of an animal; without `digest`, the accepted one."""
        return datasets.load(animal, self.settings.datasets / animal, self.settings.cache, digest)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` needs on another worker: plain values."""
        params = self.params.model_dump()
        return {"animal": self.animal, "digest": self.digest, "parent": self.parent, "params": params}

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        settings: Settings,
        params: type[P] = RetrainParams,  # type: ignore[assignment]
    ) -> "Job[P]":
        return cls(values["animal"], values["digest"], values["parent"], params.read(values["params"]), settings)


GanJob = Job[GanParams]


def animal_named(name: str, settings: Settings) -> Animal:
    """Return the animal of this name.

    Raises:
        ParameterError: `animals.toml` has no such table, or one that can't be used.
    """
    known = animals.read(settings.animals)
    if faults := animals.faults(settings.animals).get(name):
        raise ParameterError(" ".join(map(str, faults)))
    if name not in known:
        raise ParameterError(f"{settings.animals} has no table [{name}]. Expected one of: {', '.join(known)}.")
    return known[name]


def perform(
    job: Job[Any],
    stage: str,
    choices: Mapping[str, Any],
    work: Callable[[StageRun, Path], Findings],
    reuse: bool = True,
) -> StageResult:
    """Return the stage's result: an earlier run's if it did the same work (and `reuse`), else what `work` finds.

    The same work is the same dataset, the same `choices`, and the same code: that of the module of `work` and of all
    that it imports, on the same numeric libraries. `work` gets the open run and a folder for checkpoints, which a
    killed task finds again.
    """
    module = work.__module__
    key = work_key(stage, job.digest, choices, fingerprint.of(module))
    result = None if job.params.force or not reuse else job.tracker.find(job.animal, stage, key)
    if result:
        log.info("%s: the same work was done by MLflow run %s; its result is used", stage, result.run_id)
    else:
        checkpoints = job.settings.home / "work" / job.parent / key
        store.renew_folder(checkpoints)
        with job.tracker.stage(job.animal, job.parent, stage, key, module) as run:
            run.log(params=choices)
            found = work(run, checkpoints)
            run.log(found.metrics)
            result = StageResult(stage, job.animal, job.digest, run.id, found.metrics, found.candidates, found.summary)
            job.tracker.keep_result(result)
        crossvalidation.forget(checkpoints)
    job.tracker.link(job.parent, result)
    log.info("%s: %s", stage, result.summary)
    return result
