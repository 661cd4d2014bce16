"""How the Menagerie page finds what it shows in MLflow.

What the runs, their tags and their metrics are called is written in `ml.tracking` and `ml.stages`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from menagerie.store import TAG, Mlflow, Run, time_of
from menagerie.views import AnimalView, Champion, Failure, Generation, Overview, Picture, Scoring, Validation, Work
from ml.progress import Progress

SCORES, SCANS = "score_images", "validate_images"
"""The experiments of what is done to photos of no animal alone: of the DAGs that score them and that read them."""
HISTORY = 12
"""Retrainings that an animal's chart shows."""
GALLERY = 9
"""Trainings of a GAN that its gallery shows."""
PICTURES = {
    "explore": ("tsne",),
    "winner": ("mistakes",),
    "explain": ("grad_cam", "feature_maps"),
    "compare": ("candidates",),
    "decide": ("against_champion",),
}
"""The pictures to show, by the stage that draws them; the winner is the stage that proposed the chosen candidate."""
DOUBTFUL = {"validate": ("contradictions",)}
"""That of photos whose label is doubtful."""
DRAWN = {"gan": ("samples", "samples_over_time"), "score": ("best_and_worst",)}
"""Those of a GAN."""


def overview(mlflow: Mlflow, animals: Sequence[str]) -> Overview:
    """Return what there is to say of each animal, what runs, and how photos were read and scored last.

    It takes calls whose number doesn't grow with the runs.
    """
    experiments = mlflow.experiments(animals)
    champions, works, scored, scan, *found = mlflow.all(
        mlflow.champions,
        partial(running, mlflow, animals),
        partial(_last, mlflow, SCORES),
        partial(_last, mlflow, SCANS),
        *(partial(_recent, mlflow, name, experiment) for name, experiment in experiments.items()),
    )
    recent: dict[str, Recent] = dict(zip(experiments, found, strict=True))
    wanted = [run_id for name in recent for run_id in recent[name].related(champions.get(f"{name}-classifier"))]
    related = mlflow.named(list(experiments.values()), wanted)
    views = mlflow.all(
        *(partial(_view, mlflow, recent[name], related, champions.get(f"{name}-classifier")) for name in recent)
    )
    known = dict(zip(recent, views, strict=True))
    scoring = _scoring(scored, animals) if scored else None
    return Overview([known.get(name) or AnimalView(name) for name in animals], works, scoring, scan)


def running(mlflow: Mlflow, animals: Sequence[str]) -> list[Work]:
    """Return the DAG runs that have not ended, the newest first."""
    names = {experiment: name for name, experiment in mlflow.experiments([*animals, SCORES, SCANS]).items()}
    unfinished = mlflow.runs(list(names), "attributes.status = 'RUNNING'", 100)
    works = []
    for run in (each for each in unfinished if each.tag("dag_run_id")):
        stages = [each for each in unfinished if each.parent == run.id or (each is run and each.tag("progress"))]
        stages.sort(key=lambda stage: stage.started)
        animal = names[run.experiment]
        told = [(stage, Progress.from_json(stage.tag("progress"))) for stage in stages]
        works.append(Work(animal if animal in animals else "", run, told, _waits(mlflow, run, stages)))
    return works


def _waits(mlflow: Mlflow, run: Run, stages: Sequence[Run]) -> bool:
    """Return whether a person is to approve what a retraining proposes, and hasn't yet."""
    decided, asked = run.stages.get("decide"), run.params.get("require_approval") == "True"
    if not decided or not asked or "promote" in {*run.stages, *(stage.tag("stage") for stage in stages)}:
        return False
    return bool(mlflow.named([run.experiment], [decided])[decided].metrics.get("proposed"))


def _last(mlflow: Mlflow, experiment: str) -> Run | None:
    """Return the last run of an experiment that has ended."""
    experiments = list(mlflow.experiments([experiment]).values())
    return next(iter(mlflow.runs(experiments, "attributes.status != 'RUNNING'", 1)), None)


def _scoring(run: Run, animals: Sequence[str]) -> Scoring:
    return Scoring(run, {name: int(run.metrics[f"n_{name}"]) for name in animals if f"n_{name}" in run.metrics})


@dataclass(frozen=True)
class Recent:
    """An animal's last runs, the newest first."""

    animal: str
    experiment: str
    retrained: list[Run]
    validated: list[Run]
    """The stages that validated; whether a dataset was accepted is said by the DAG runs they belong to."""
    generated: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.retrained if run.status == "FINISHED"]

    def related(self, version: dict[str, Any] | None) -> list[str]:
        """Return the runs that are needed beside these."""
        promotions = [run.stages["promote"] for run in self.finished[:1] if "promote" in run.stages]
        drawn = [run.stages[stage] for run in self.generated for stage in DRAWN if stage in run.stages]
        parents = [run.parent for run in self.validated]
        return [*promotions, *drawn, *parents, *([version["run_id"]] if version else [])]


def _recent(mlflow: Mlflow, name: str, experiment: str) -> Recent:
    def newest(tag: str, value: str, limit: int) -> list[Run]:
        return mlflow.runs([experiment], f"tags.`{TAG}{tag}` = '{value}'", limit)

    return Recent(
        name,
        experiment,
        newest("dag_id", f"retrain_{name}", HISTORY),
        newest("stage", "validate", 5),
        newest("dag_id", f"gan_{name}", GALLERY),
    )


def _view(mlflow: Mlflow, recent: Recent, related: dict[str, Run], version: dict[str, Any] | None) -> AnimalView:
    newest = next(iter(recent.finished), None)
    promotion = related.get(newest.stages.get("promote", "")) if newest else None
    checks = [(related[stage.parent], stage) for stage in recent.validated if stage.parent in related]
    ended = (recent.retrained, [run for run, _ in checks], recent.generated)
    failures = [_failure(mlflow, runs) for runs in ended]
    validation = next((Validation(*check) for check in checks if check[0].status == "FINISHED"), None)
    pictures = _pictures(mlflow, newest, PICTURES, _winner(newest, promotion)) if newest else []
    if validation:
        pictures += _pictures(mlflow, validation.run, DOUBTFUL, {"validate": validation.stage.id})
    return AnimalView(
        recent.animal,
        recent.experiment,
        _champion(version, related.get(version["run_id"])) if version else None,
        recent.finished,
        promotion.tag("decision") if promotion else "",
        validation,
        [failure for failure in failures if failure],
        pictures,
        _generations(mlflow, recent, related),
        bool(validation) and validation.run.tag("dataset") not in {run.tag("dataset") for run in recent.retrained},
    )


def _champion(version: dict[str, Any], run: Run | None) -> Champion:
    tags = {each["key"]: each["value"] for each in version.get("tags", [])}
    return Champion(version["version"], time_of(version["creation_timestamp"]), tags, run)


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


def _generations(mlflow: Mlflow, recent: Recent, related: Mapping[str, Run]) -> list[Generation]:
    """Return the GANs that were trained, each once, however many DAG runs used it; the newest with all pictures."""
    generations: dict[str, Generation] = {}
    for run in recent.generated:
        trained = related.get(run.stages.get("gan", ""))
        if run.status == "FINISHED" and trained and trained.id not in generations:
            first = [Picture("samples", trained.id, int(run.at.timestamp()))]
            pictures = first if generations else _pictures(mlflow, run, DRAWN, {})
            scored = related.get(run.stages.get("score", ""))
            generations[trained.id] = Generation(run, trained, scored, pictures)
    return list(generations.values())


def _winner(run: Run, promotion: Run | None) -> dict[str, str]:
    """Return the stage that proposed the chosen candidate."""
    chosen = promotion.params.get("candidate", "") if promotion else ""
    proposers = [stage for stage in run.stages if f"{chosen} ".startswith(f"{stage} ")]
    return {"winner": run.stages[max(proposers, key=len)]} if proposers else {}


def _pictures(
    mlflow: Mlflow, run: Run, wanted: Mapping[str, Sequence[str]], others: Mapping[str, str]
) -> list[Picture]:
    """Return the pictures `wanted` of the stages of a DAG run and of `others`, in their order, that there are."""
    stages, at = run.stages | others, int(run.at.timestamp())
    return [
        Picture(name, stages[stage], at)
        for stage, names in wanted.items()
        if stage in stages
        for name in names
        if name in mlflow.plots(stages[stage], at)
    ]
