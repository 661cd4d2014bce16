"""Transfer: the features of a frozen pretrained network, and a linear head fitted anew in every fold."""

from pathlib import Path

import keras
import numpy as np

from ml.analysis.classification import DRAWS, balanced_subset
from ml.crossvalidation import Fold
from ml.models.backbones import BACKBONES, build_backbone
from ml.models.complexity import multiply_adds
from ml.models.head import LinearHead, build_classifier, fit_head
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.features import features
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "transfer"


def run(job: Job, backbone: str) -> StageResult:
    """Judge a linear head on the backbone's features out of fold, on the folds of the dataset."""
    stage_name = f"{STAGE} {backbone}"
    choices = {
        "seed": job.params.seed,
        "backbone": backbone,
        "canvas": list(BACKBONES[backbone].canvas),
        "padding": list(BACKBONES[backbone].padding),
        "negatives": "balanced" if job.params.train_negatives == "balanced" else "all",
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        rows = job.dataset.training
        given = features(job.dataset, rows.index, backbone, job.settings)
        metrics = evaluation.cross_validate(
            stage, job.dataset, checkpoints, lambda fold: _judge(job, given, fold, choices), job.params.seed
        )
        drawn = [_course(job, given, draw, choices) for draw in range(DRAWS)]
        metrics |= evaluation.course(stage, job.dataset, drawn, job.params.seed)
        network, canvas = build_backbone(backbone), BACKBONES[backbone].canvas
        metrics |= evaluation.cost(network, *canvas)
        candidate = Candidate(stage_name, multiply_adds(network, *canvas), metrics["cv_accuracy_mean"], choices)
        return Findings(evaluation.sentence(metrics), metrics, (candidate,))

    return perform(job, stage_name, choices, work)


def final_model(job: Job, choices: dict) -> keras.Model:
    """Return the backbone with a head fitted on all folds: uint8 photos in, probability of the animal out."""
    rows = job.dataset.training
    given = features(job.dataset, rows.index, choices["backbone"], job.settings)
    head, _ = _fit(job, given, np.arange(len(rows)), choices)
    return build_classifier(build_backbone(choices["backbone"]), head, tuple(choices["canvas"]))


def _judge(job: Job, given: np.ndarray, fold: int, choices: dict) -> Fold:
    rows = job.dataset.training
    held_out = np.flatnonzero(rows.fold == fold)
    head, trained = _fit(job, given, np.flatnonzero(rows.fold != fold), choices)
    probabilities = head.predict(given[held_out])
    return evaluation.judged(rows.label.to_numpy(bool), held_out, probabilities, trained, head.predict(given[trained]))


def _course(job: Job, given: np.ndarray, draw: int, choices: dict) -> np.ndarray:
    """Return what heads fitted on one balanced draw of each fold's training photos say out of fold, float32 [N]."""
    folds, balanced = job.dataset.training.fold.to_numpy(), {"negatives": "balanced", "seed": choices["seed"] + draw}
    said = np.empty(len(folds), np.float32)
    for fold in np.unique(folds):
        head, _ = _fit(job, given, np.flatnonzero(folds != fold), balanced)
        said[folds == fold] = head.predict(given[folds == fold])
    return said


def _fit(job: Job, given: np.ndarray, candidates: np.ndarray, choices: dict) -> tuple[LinearHead, np.ndarray]:
    rows = job.dataset.training
    labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    trained = candidates
    if choices["negatives"] == "balanced":
        trained = balanced_subset(candidates, labels, classes, choices["seed"])
    groups = np.unique(rows.group.to_numpy(str)[trained], return_inverse=True)[1]
    head = fit_head(given[trained], classes[trained], labels[trained], groups)
    return head, trained
