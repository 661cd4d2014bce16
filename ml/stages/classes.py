"""Classes: the tuned network, a third wider, told of every photo which class it is in; a candidate of its own.

"A wolf" says more than "not a fox", from scratch too, and there are far more photos to learn shapes and colours from
than as many others as there are of the animal. Photos are changed at random as in `ml.stages.augment`.
"""

from pathlib import Path
from typing import Any

import keras

from ml.crossvalidation import Fold, cross_validate, pool
from ml.models import hypermodel
from ml.models.complexity import multiply_adds
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.augment import Course
from ml.stages.balancing import balance
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "classes"
BATCH, WIDER = 32, 4 / 3
"""Photos a batch at least, and the factor on the filters: there are many more photos, and classes, than in a search."""


def run(job: Job, tuned: StageResult) -> StageResult:
    """Judge the network that `tuned` proposes out of fold, trained to tell all classes apart.

    Every fold is trained with the configuration that was chosen without it.
    """
    (candidate,) = tuned.candidates
    found = candidate.settings
    choices: dict[str, Any] = {
        **{name: found[name] for name in ("side", "padding", "seed")},
        "config": _larger(found["config"]),
        "by_fold": {fold: _larger(config) for fold, config in found["by_fold"].items()},
        "negatives": "balanced" if job.params.train_negatives == "balanced" else "all",
        "epochs": job.params.class_epochs,
        "copies": 1,
        "augmentations": list(job.params.augmentations),
        "mode": found.get("mode"),
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        course = Course(job, choices, STAGE, by_class=True)
        labels, folds = course.bench.labels, sorted(set(course.bench.folds))

        def judge(fold: int) -> Fold:
            config = choices["by_fold"][str(fold)]
            return course.bench.judge(fold, lambda places, watched: course.fit(config, places, watched))

        judged, shift = balance(cross_validate(folds, checkpoints, judge), labels)
        metrics = evaluation.report(stage, job.dataset, judged, pool(judged, len(labels)), choices["seed"])
        cost = multiply_adds(course.plain(choices["config"]), hypermodel.SIDE, hypermodel.SIDE)
        proposed = Candidate(STAGE, cost, metrics["cv_accuracy_mean"], choices | {"shift": shift})
        return Findings(evaluation.sentence(metrics), metrics, (proposed,))

    return perform(job, STAGE, choices, work)


def final_model(job: Job, settings: dict[str, Any]) -> keras.Model:
    """Return the network trained on all folds, with nothing in it that changes photos: the animal's probability."""
    course, config = Course(job, settings, STAGE, by_class=True), settings["config"]
    trained, _ = course.fit(config, course.bench.trained_on())
    return hypermodel.asked(course.plain(config, trained), course.bench.positive, settings["shift"])


def _larger(config: hypermodel.Configuration) -> hypermodel.Configuration:
    return config | {"batch_size": max(BATCH, config["batch_size"]), "filters": round(WIDER * config["filters"])}
