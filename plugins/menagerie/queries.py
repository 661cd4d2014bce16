"""What the Menagerie page shows: views of each animal's runs.

What the runs, their tags and their metrics are called is written in `ml.tracking` and `ml.stages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from menagerie.store import TAG, Mlflow, Run, time_of

HISTORY = 12
"""Retrainings that an animal's chart shows."""
PICTURES = {
    "explore": ("tsne",),
    "winner": ("mistakes",),
    "explain": ("grad_cam", "feature_maps"),
    "compare": ("candidates",),
    "promote": ("against_champion",),
}
"""The pictures to show, by the stage that draws them; the winner is the stage that proposed the chosen candidate."""


@dataclass(frozen=True)
class Accuracy:
    """Cross-validated accuracy with its 95 % interval, from 0 to 1."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, run: Run) -> "Accuracy | None":
        numbers = [run.metrics.get(f"cv_accuracy_{name}") for name in ("mean", "low", "high")]
        return None if None in numbers else cls(*numbers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Champion:
    """The version that answers for an animal."""

    version: str
    since: datetime
    tags: dict[str, str]
    run: Run | None
    """The promotion that it came from."""

    @property
    def accuracy(self) -> Accuracy | None:
        return Accuracy.of(self.run) if self.run else None


@dataclass(frozen=True)
class Validation:
    """The last photos that were accepted."""

    run: Run
    counts: dict[str, int]
    """`n_photos`, `n_positives`, `n_left_out`, `n_holdout`"""


@dataclass(frozen=True)
class Failure:
    """The last DAG run that failed."""

    run: Run
    reasons: list[str]
    mended: bool
    """Whether the same DAG has ended well since."""


@dataclass(frozen=True)
class Picture:
    """A PNG in `plots` of a run; `at` changes when it is drawn again."""

    name: str
    run: str
    at: int


@dataclass(frozen=True)
class AnimalView:
    """Everything that the page says of one animal."""

    name: str
    experiment: str = ""
    champion: Champion | None = None
    history: list[Run] = field(default_factory=list)
    """The retrainings that ended well, the newest first."""
    decision: str = ""
    photos: Validation | None = None
    failures: list[Failure] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """A DAG run that has not ended, and what it is at."""

    animal: str
    run: Run
    open: list[Run]
    """Its stages that run now."""


def overview(mlflow: Mlflow, animals: Sequence[str]) -> tuple[list[AnimalView], list[Work]]:
    """Return what there is to say of each animal, and what runs: in calls whose number doesn't grow with the runs."""
    experiments = mlflow.experiments(animals)
    champions, works, *found = mlflow.all(
        mlflow.champions,
        partial(running, mlflow, animals),
        *(partial(_recent, mlflow, name, experiment) for name, experiment in experiments.items()),
    )
    recent: dict[str, Recent] = dict(zip(experiments, found, strict=True))
    wanted = [run_id for name in recent for run_id in recent[name].related(champions.get(f"{name}-classifier"))]
    related = mlflow.named(list(experiments.values()), wanted)
    views = mlflow.all(
        *(partial(_view, mlflow, recent[name], related, champions.get(f"{name}-classifier")) for name in recent)
    )
    known = dict(zip(recent, views, strict=True))
    return [known.get(name) or AnimalView(name) for name in animals], works


def running(mlflow: Mlflow, animals: Sequence[str]) -> list[Work]:
    """Return the DAG runs that have not ended, the newest first."""
    names = {experiment: name for name, experiment in mlflow.experiments(animals).items()}
    unfinished = mlflow.runs(list(names), "attributes.status = 'RUNNING'", 100)
    return [
        Work(
            names[run.experiment],
            run,
            sorted((each for each in unfinished if each.parent == run.id), key=lambda each: each.started),
        )
        for run in unfinished
        if run.tag("dag_run_id")
    ]


@dataclass(frozen=True)
class Recent:
    """An animal's last runs, the newest first."""

    animal: str
    experiment: str
    retrained: list[Run]
    validated: list[Run]
    """The stages that validated; whether a dataset was accepted is said by the DAG runs they belong to."""

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.retrained if run.status == "FINISHED"]

    def related(self, version: dict[str, Any] | None) -> list[str]:
        """Return the runs that are needed beside these."""
        promotions = [run.stages["promote"] for run in self.finished[:1] if "promote" in run.stages]
        return [*promotions, *([version["run_id"]] if version else []), *(run.parent for run in self.validated)]


def _recent(mlflow: Mlflow, name: str, experiment: str) -> Recent:
    retrained = mlflow.runs([experiment], f"tags.`{TAG}dag_id` = 'retrain_{name}'", HISTORY)
    return Recent(name, experiment, retrained, mlflow.runs([experiment], f"tags.`{TAG}stage` = 'validate'", 5))


def _view(mlflow: Mlflow, recent: Recent, related: dict[str, Run], version: dict[str, Any] | None) -> AnimalView:
    newest = next(iter(recent.finished), None)
    promotion = related.get(newest.stages.get("promote", "")) if newest else None
    checks = [(related[stage.parent], stage) for stage in recent.validated if stage.parent in related]
    failures = [_failure(mlflow, recent.retrained), _failure(mlflow, [run for run, _ in checks])]
    return AnimalView(
        recent.animal,
        recent.experiment,
        _champion(version, related.get(version["run_id"])) if version else None,
        recent.finished,
        promotion.tag("decision") if promotion else "",
        next((Validation(run, _counts(stage)) for run, stage in checks if run.status == "FINISHED"), None),
        [failure for failure in failures if failure],
        _pictures(mlflow, newest, promotion) if newest else [],
    )


def _champion(version: dict[str, Any], run: Run | None) -> Champion:
    tags = {each["key"]: each["value"] for each in version.get("tags", [])}
    return Champion(version["version"], time_of(version["creation_timestamp"]), tags, run)


def _counts(run: Run) -> dict[str, int]:
    return {name: int(value) for name, value in run.metrics.items() if name.startswith("n_")}


def _failure(mlflow: Mlflow, runs: list[Run]) -> Failure | None:
    """Return the last failure among the runs of a DAG, the newest first, in the words of the stages that failed."""
    position = next((at for at, run in enumerate(runs) if run.status == "FAILED"), None)
    if position is None:
        return None
    run = runs[position]
    mended = any(later.status == "FINISHED" for later in runs[:position])
    clauses = f"tags.`mlflow.parentRunId` = '{run.id}' and attributes.status = 'FAILED'"
    stages = [] if mended else mlflow.runs([run.experiment], clauses, 5)
    told = [f"{stage.tag('stage')}: {stage.tag('reason')}" for stage in stages if stage.tag("reason")]
    return Failure(run, told or [run.tag("reason") or "The log of the task in Airflow says why."], mended)


def _pictures(mlflow: Mlflow, run: Run, promotion: Run | None) -> list[Picture]:
    """Return the telling pictures of a DAG run, in the order of `PICTURES`."""
    stages = dict(run.stages)
    chosen = promotion.params.get("candidate", "") if promotion else ""
    proposers = [stage for stage in stages if f"{chosen} ".startswith(f"{stage} ")]
    if proposers:
        stages["winner"] = stages[max(proposers, key=len)]
    at = int(run.at.timestamp())
    drawn = {stage: mlflow.plots(stages[stage], at) for stage in PICTURES if stage in stages}
    return [
        Picture(name, stages[stage], at)
        for stage, names in PICTURES.items()
        for name in names
        if name in drawn.get(stage, ())
    ]
