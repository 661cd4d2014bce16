"""Transfer: the features of a frozen pretrained network, and a linear head fitted anew in every fold."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml.analysis.classification import DRAWS, balanced_subset
from ml.crossvalidation import Fold
from ml.models.backbones import BACKBONES, build_backbone
from ml.models.complexity import multiply_adds
from ml.models.head import LinearHead, build_classifier, fit_head, fit_heads_without_class
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.features import features
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "transfer"
NOT_MEASURED = (
    "how it does on animals that no folder holds is not measured: the photos of other animals are all of one class, "
    "so none can be left out"
)


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
        unseen = evaluation.unseen_sentence(metrics, job.animal) or NOT_MEASURED
        return Findings(f"{evaluation.sentence(metrics)}; {unseen}", metrics, (candidate,))

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
    judged = evaluation.judged(
        rows.label.to_numpy(bool), held_out, probabilities, trained, head.predict(given[trained])
    )
    return replace(judged, unseen=_unseen(job, given, judged, trained, head))


def _unseen(job: Job, given: np.ndarray, judged: Fold, trained: np.ndarray, head: LinearHead) -> np.ndarray:
    """Return what heads that have seen no photo of its class say of each held-out photo, float32 [K].

    NaN for photos of the animal, and for all if the other animals are one class.
    """
    rows = job.dataset.training
    heads = fit_heads_without_class(given[trained], *_truth(rows, trained), head.penalty)
    labels, classes = rows.label.to_numpy(bool)[judged.held_out], rows["class"].to_numpy(str)[judged.held_out]
    unseen = np.full(len(judged.held_out), np.nan, np.float32)
    for name in np.unique(classes[~labels]):
        inside = classes == name
        if name in heads:
            unseen[inside] = heads[name].predict(given[judged.held_out[inside]])
        elif name not in head.classes:  # all of the class is held out together
            unseen[inside] = judged.probabilities[inside]
    return unseen


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
    trained = candidates
    if choices["negatives"] == "balanced":
        labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
        trained = balanced_subset(candidates, labels, classes, choices["seed"])
    return fit_head(given[trained], *_truth(rows, trained)), trained


def _truth(rows: pd.DataFrame, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the class of each photo `chosen`, str [N], whether it is the animal, bool [N], and its group, int [N]."""
    groups = np.unique(rows.group.to_numpy(str)[chosen], return_inverse=True)[1]
    return rows["class"].to_numpy(str)[chosen], rows.label.to_numpy(bool)[chosen], groups
