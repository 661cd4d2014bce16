"""The baseline: a network of one convolution, trained from scratch, in cross-validation."""

from pathlib import Path

import keras
import numpy as np

from ml import training
from ml.crossvalidation import Fold
from ml.models.baseline import SIDE, build_baseline
from ml.models.complexity import multiply_adds
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.job import Findings, Job, perform
from ml.stages.scratch import Bench, negatives_of
from ml.tracking import StageRun

STAGE = "baseline"
BATCH = 16


def run(job: Job) -> StageResult:
    """Judge the baseline out of fold, on the folds of the dataset."""
    choices = {
        "seed": job.params.seed,
        "epochs": job.params.baseline_epochs,
        "negatives": negatives_of(job),
        "side": SIDE,
        "padding": None,
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        bench = _bench(job, choices)
        model = _build(choices)
        start = training.FreshStart(model)

        def judge(fold: int) -> Fold:
            start.restore()
            return bench.judge(fold, lambda places, watched: (model, _fit(bench, model, places, watched, choices)))

        metrics = evaluation.cross_validate(stage, job.dataset, checkpoints, judge, job.params.seed)
        cost = multiply_adds(model, SIDE, SIDE)
        candidate = Candidate(STAGE, cost, metrics["cv_accuracy_mean"], choices)
        return Findings(evaluation.sentence(metrics), metrics, (candidate,))

    return perform(job, STAGE, choices, work)


def final_model(job: Job, choices: dict) -> keras.Model:
    """Return the baseline trained on all folds."""
    bench, model = _bench(job, choices), _build(choices)
    _fit(bench, model, bench.trained_on(), None, choices)
    return model


def _bench(job: Job, choices: dict) -> Bench:
    return Bench.of(job, SIDE, choices["negatives"], choices["seed"])


def _build(choices: dict) -> keras.Model:
    keras.utils.set_random_seed(choices["seed"])
    return build_baseline()


def _fit(
    bench: Bench,
    model: keras.Model,
    places: np.ndarray,
    watched: tuple[np.ndarray, np.ndarray] | None,
    choices: dict,
) -> dict[str, list[float]]:
    return bench.fit(model, places, watched, epochs=choices["epochs"], batch_size=BATCH, name=STAGE)
