"""Average: the pretrained networks vote, each with its log-odds; a candidate of its own."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from ml.analysis.classification import THRESHOLD
from ml.crossvalidation import Fold
from ml.models.average import average_probabilities, build_average
from ml.results import Candidate, StageResult
from ml.stages import evaluation, transfer
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "average"


def run(job: Job, results: Sequence[StageResult]) -> StageResult | None:
    """Judge the mean of the out-of-fold log-odds of the transfer stages' `results`; `None` if there are fewer than two.

    Nothing is fitted, so nothing can leak; as its accuracy in training counts the mean of its members'.
    """
    if len(results) < 2:
        return None
    members = [candidate for result in results for candidate in result.candidates]
    choices = {"members": sorted(f"{result.stage}={result.run_id}" for result in results)}

    def work(stage: StageRun, _: Path) -> Findings:
        said = [job.tracker.read_table(result.run_id, evaluation.OUT_OF_FOLD).probability for result in results]
        probabilities = average_probabilities(said)
        rows = job.dataset.training
        correct = (probabilities >= THRESHOLD) == rows.label.to_numpy(bool)
        trained = float(np.mean([result.metrics["train_accuracy_mean"] for result in results]))
        folds = []
        for fold in sorted(rows.fold.unique()):
            held_out = np.flatnonzero(rows.fold == fold)
            metrics = {"accuracy": float(correct[held_out].mean()), "train_accuracy": trained}
            folds.append(Fold(held_out, probabilities[held_out], {}, metrics))
        metrics = evaluation.report(stage, job.dataset, folds, probabilities, job.params.seed)
        settings = {
            "members": [member.settings for member in members],
            "padding": members[0].settings["padding"],  # all backbones take the same canvas
        }
        cost = sum(member.complexity for member in members)
        candidate = Candidate(STAGE, cost, metrics["cv_accuracy_mean"], settings)
        return Findings(evaluation.sentence(metrics), metrics, (candidate,))

    return perform(job, STAGE, choices, work)


def final_model(job: Job, settings: dict) -> keras.Model:
    """Return the members, each with a head fitted on all folds, as one network."""
    return build_average([transfer.final_model(job, member) for member in settings["members"]])
