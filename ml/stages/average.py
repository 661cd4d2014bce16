"""Average: the pretrained networks, frozen and fine-tuned, vote with their log-odds; a candidate of its own."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from ml.analysis.classification import THRESHOLD
from ml.crossvalidation import Fold
from ml.models.average import average_probabilities, build_average, shared_weights
from ml.results import Candidate, StageResult
from ml.stages import evaluation, final
from ml.stages.answers import UNSEEN
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "average"


def run(job: Job, results: Sequence[StageResult]) -> StageResult | None:
    """Judge the average of the out-of-fold log-odds of the stages' `results`; `None` if there are fewer than two.

    What is fine-tuned has as much say as all that is frozen together. Nothing is fitted, so nothing can leak; as its
    accuracy in training counts the mean of its members'.
    """
    if len(results) < 2:
        return None
    members = [candidate for result in results for candidate in result.candidates]
    weights = shared_weights([member.name.split()[0] for member in members])
    choices = {"members": sorted(f"{result.stage}={result.run_id}" for result in results)}

    def work(stage: StageRun, _: Path) -> Findings:
        tables = [job.tracker.read_table(result.run_id, evaluation.OUT_OF_FOLD) for result in results]
        probabilities = average_probabilities([table.probability for table in tables], weights)
        measured = all(UNSEEN in table for table in tables)
        unseen = average_probabilities([table[UNSEEN] for table in tables], weights) if measured else None
        rows = job.dataset.training
        correct = (probabilities >= THRESHOLD) == rows.label.to_numpy(bool)
        trained = float(np.mean([result.metrics["train_accuracy_mean"] for result in results]))
        folds = []
        for fold in sorted(rows.fold.unique()):
            held_out = np.flatnonzero(rows.fold == fold)
            metrics = {"accuracy": float(correct[held_out].mean()), "train_accuracy": trained}
            never = None if unseen is None else unseen[held_out]
            folds.append(Fold(held_out, probabilities[held_out], {}, metrics, never))
        metrics = evaluation.report(stage, job.dataset, folds, probabilities, job.params.seed)
        metrics |= _course(job, stage, results) | {
            name: sum(result.metrics.get(name, 0.0) for result in results)
            for name in ("million_parameters", "milliseconds_a_photo")
        }
        settings = {
            "members": [{"name": member.name, "settings": member.settings} for member in members],
            "weights": weights,
            "padding": members[0].settings["padding"],  # all backbones take the same canvas
        }
        cost = sum(member.complexity for member in members)
        candidate = Candidate(STAGE, cost, metrics["cv_accuracy_mean"], settings)
        said = [evaluation.sentence(metrics), evaluation.unseen_sentence(metrics, job.animal)]
        return Findings("; ".join(filter(None, said)), metrics, (candidate,))

    return perform(job, STAGE, choices, work)


def _course(job: Job, stage: StageRun, results: Sequence[StageResult]) -> dict[str, float]:
    """Return the metrics of those members' average that were trained on balanced draws too."""
    members = [result for result in results if "course_accuracy_mean" in result.metrics]
    if not members:
        return {}
    tables = [job.tracker.read_table(result.run_id, evaluation.COURSE) for result in members]
    weights = shared_weights([STAGE for _ in members])
    draws = [average_probabilities([table[draw] for table in tables], weights) for draw in tables[0].columns]
    return evaluation.course(stage, job.dataset, draws, job.params.seed)


def final_model(job: Job, settings: dict) -> keras.Model:
    """Return the members, each fitted by its stage on all folds, as one network."""
    members = [Candidate(member["name"], 0, 0, member["settings"]) for member in settings["members"]]
    return build_average([final.final_model(job, member) for member in members], settings["weights"])
