"""The baseline: a network of one convolution, trained from scratch, in cross-validation."""

from pathlib import Path

import keras
import numpy as np

from ml import training
from ml.analysis.classification import balanced_subset
from ml.crossvalidation import Fold
from ml.models.baseline import SIDE, build_baseline
from ml.models.complexity import multiply_adds
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "baseline"
BATCH = 16


def run(job: Job) -> StageResult:
    """Judge the baseline out of fold, on the folds of the dataset."""
    choices = {
        "seed": job.params.seed,
        "epochs": job.params.baseline_epochs,
        "negatives": "all" if job.params.train_negatives == "all" else "balanced",
        "side": SIDE,
        "padding": None,
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        rows = job.dataset.training
        images = job.dataset.images(rows.index, SIDE, SIDE)
        model = _build(choices)
        start = training.FreshStart(model)

        def judge(fold: int) -> Fold:
            start.restore()
            return _judge(job, model, images, fold, choices)

        metrics = evaluation.cross_validate(stage, job.dataset, checkpoints, judge, job.params.seed)
        cost = multiply_adds(model, SIDE, SIDE)
        candidate = Candidate(STAGE, cost, metrics["cv_accuracy_mean"], choices)
        return Findings(evaluation.sentence(metrics), metrics, (candidate,))

    return perform(job, STAGE, choices, work)


def final_model(job: Job, choices: dict) -> keras.Model:
    """Return the baseline trained on all folds."""
    rows = job.dataset.training
    images = job.dataset.images(rows.index, SIDE, SIDE)
    model = _build(choices)
    _train(job, model, images, np.arange(len(rows)), choices)
    return model


def _build(choices: dict) -> keras.Model:
    keras.utils.set_random_seed(choices["seed"])
    return build_baseline()


def _judge(job: Job, model: keras.Model, images: np.ndarray, fold: int, choices: dict) -> Fold:
    rows = job.dataset.training
    held_out = np.flatnonzero(rows.fold == fold)
    curves, trained = _train(job, model, images, np.flatnonzero(rows.fold != fold), choices, held_out)
    probabilities = model.predict(images[held_out], batch_size=256, verbose=0)[:, 0]
    fitted = model.predict(images[trained], batch_size=256, verbose=0)[:, 0]
    return evaluation.judged(rows.label.to_numpy(), held_out, probabilities, trained, fitted, curves)


def _train(
    job: Job,
    model: keras.Model,
    images: np.ndarray,
    candidates: np.ndarray,
    choices: dict,
    watched: np.ndarray | None = None,
) -> tuple[dict[str, list[float]], np.ndarray]:
    """Train the model on `candidates`; return its curves, and the photos that it was trained on.

    The curves of the photos left out are watched on a balanced draw of them, like those trained on.
    """
    rows = job.dataset.training
    labels, classes = rows.label.to_numpy(), rows["class"].to_numpy(str)

    trained = candidates
    if choices["negatives"] == "balanced":
        trained = balanced_subset(candidates, labels, classes, choices["seed"])
    validation = None
    if watched is not None:
        seen = balanced_subset(watched, labels, classes, choices["seed"])
        validation = images[seen], labels[seen]
    curves = training.fit(
        model,
        images[trained],
        labels[trained],
        epochs=choices["epochs"],
        batch_size=BATCH,
        seed=choices["seed"],
        validation=validation,
        name=STAGE,
    )
    return curves, trained
