"""The floor: what colours alone tell, judged like the networks. A reference, no candidate for champion."""

from pathlib import Path

import numpy as np

from ml import crossvalidation
from ml.analysis.classification import THRESHOLD, balanced_draws
from ml.crossvalidation import Fold
from ml.models.histogram import colour_histogram, fit_histogram_classifier
from ml.results import StageResult
from ml.stages import evaluation
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "floor"


def run(job: Job) -> StageResult:
    """Judge a support vector machine on colour histograms out of fold, trained on balanced draws."""
    choices = {"seed": job.params.seed}

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        rows = job.dataset.training
        histograms = np.stack([colour_histogram(job.dataset.pixels(index)) for index in rows.index])
        folds = sorted(rows.fold.unique())
        outcomes = crossvalidation.cross_validate(folds, checkpoints, lambda fold: _judge(job, histograms, fold))
        probabilities = crossvalidation.pool(outcomes, len(rows))
        metrics = evaluation.report(stage, job.dataset, outcomes, probabilities, job.params.seed)
        return Findings(f"colours alone: {evaluation.sentence(metrics)}", metrics)

    return perform(job, STAGE, choices, work)


def _judge(job: Job, histograms: np.ndarray, fold: int) -> Fold:
    rows = job.dataset.training
    labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    candidates, held_out = np.flatnonzero(rows.fold != fold), np.flatnonzero(rows.fold == fold)
    (chosen,) = balanced_draws(labels[candidates], classes[candidates], job.params.seed, draws=1)
    trained = candidates[chosen]
    groups = np.unique(rows.group.to_numpy(str)[trained], return_inverse=True)[1]
    machine = fit_histogram_classifier(histograms[trained], labels[trained], groups, job.params.seed)
    probabilities = machine.predict(histograms[held_out])
    metrics = {
        "accuracy": float(((probabilities >= THRESHOLD) == labels[held_out]).mean()),
        "train_accuracy": float(((machine.predict(histograms[trained]) >= THRESHOLD) == labels[trained]).mean()),
    }
    return Fold(held_out, probabilities, {}, metrics)
