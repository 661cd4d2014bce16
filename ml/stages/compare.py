"""Comparison: which candidate is chosen, and what it is really worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import classification, selection
from ml.analysis.classification import THRESHOLD
from ml.errors import DataError
from ml.results import StageResult
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "compare"


def run(job: Job, results: Sequence[StageResult]) -> StageResult:
    """Choose the simplest candidate within one standard error of the best, by balanced out-of-fold accuracy.

    Raises:
        DataError: no stage proposed a candidate.
    """
    proposed = [(candidate, result) for result in results for candidate in result.candidates]
    if not proposed:
        raise DataError(f"No candidate for {job.animal}: every modelling stage failed or was skipped. See their logs.")
    choices = {"seed": job.params.seed, "candidates": sorted(f"{c.name}={r.run_id}" for c, r in proposed)}

    def work(stage: StageRun, _: Path) -> Findings:
        tables = {candidate.name: job.tracker.read_table(result.run_id, OUT_OF_FOLD) for candidate, result in proposed}
        first = next(iter(tables.values()))
        labels, groups = first.label.to_numpy(bool), np.unique(first.group, return_inverse=True)[1]
        correct = {name: (table.probability >= THRESHOLD).to_numpy() == labels for name, table in tables.items()}

        names = list(tables)
        costs = {candidate.name: candidate.complexity for candidate, _ in proposed}
        scores = {candidate.name: candidate.accuracy for candidate, _ in proposed}
        metrics = {candidate.name: result.metrics for candidate, result in proposed}
        n = 2 * min(labels.sum(), (~labels).sum())
        errors = {name: classification.accuracy_standard_error(scores[name], n) for name in names}
        chosen = selection.one_standard_error(
            [scores[name] for name in names], [errors[name] for name in names], [costs[name] for name in names]
        )
        worth = selection.selected_accuracy(correct, labels, groups, job.params.seed, errors, costs)

        winner = names[chosen]
        table = pd.DataFrame(
            {"candidate": names, "chosen": [name == winner for name in names]}
            | {"million_multiply_adds": [costs[name] for name in names]}
            | {key: [metrics[name][key] for name in names] for key in metrics[winner]}
        )
        stage.table("candidates", table)
        figure = figures.candidates(
            names,
            [scores[name] for name in names],
            [metrics[name]["cv_accuracy_low"] for name in names],
            [metrics[name]["cv_accuracy_high"] for name in names],
            job.animal,
            n,
            chosen=winner,
            expected=(worth.accuracy, worth.low, worth.high),
        )
        stage.figure("candidates", figure)
        stage.table(OUT_OF_FOLD, tables[winner])
        found = metrics[winner] | {
            "selected_accuracy": worth.accuracy,
            "selected_accuracy_low": worth.low,
            "selected_accuracy_high": worth.high,
        }
        summary = (
            f"{winner} is chosen among {len(names)}, the simplest within one standard error of the best; corrected for "
            f"the choice its balanced accuracy is {worth.accuracy:.1%} ({worth.low:.1%} to {worth.high:.1%})"
        )
        return Findings(summary, found, (proposed[chosen][0],))

    return perform(job, STAGE, choices, work)
