"""The floor: what colours alone tell, judged like the networks. A reference, no candidate for champion."""

from pathlib import Path

import numpy as np

from ml.analysis.classification import balanced_subset
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
        metrics = evaluation.cross_validate(
            stage, job.dataset, checkpoints, lambda fold: _judge(job, histograms, fold), job.params.seed
        )
        return Findings(f"colours alone: {evaluation.sentence(metrics)}", metrics)

    return perform(job, STAGE, choices, work)


def _judge(job: Job, histograms: np.ndarray, fold: int) -> Fold:
    rows = job.dataset.training
    labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    candidates, held_out = np.flatnonzero(rows.fold != fold), np.flatnonzero(rows.fold == fold)
    trained = balanced_subset(candidates, labels, classes, job.params.seed)
    groups = np.unique(rows.group.to_numpy(str)[trained], return_inverse=True)[1]
    machine = fit_histogram_classifier(histograms[trained], labels[trained], groups, job.params.seed)
    probabilities = machine.predict(histograms[held_out])
    return evaluation.judged(labels, held_out, probabilities, trained, machine.predict(histograms[trained]))
