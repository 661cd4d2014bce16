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

    Results that were judged but propose no candidate (the floor) stand beside them for reference.

    Raises:
        DataError: no stage proposed a candidate.
    """
    proposed = [(candidate, result) for result in results for candidate in result.candidates]
    if not proposed:
        raise DataError(f"No candidate for {job.animal}: every modelling stage failed or was skipped. See their logs.")
    references = [result for result in results if not result.candidates and "cv_accuracy_mean" in result.metrics]
    choices = {
        "seed": job.params.seed,
        "candidates": sorted(f"{candidate.name}={result.run_id}" for candidate, result in proposed),
        "references": sorted(f"{result.stage}={result.run_id}" for result in references),
    }

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
        shown = metrics | {result.stage: result.metrics for result in references}
        table = pd.DataFrame(
            {"candidate": list(shown), "chosen": [name == winner for name in shown]}
            | {"million_multiply_adds": [costs.get(name, float("nan")) for name in shown]}
            | {key: [one[key] for one in shown.values()] for key in metrics[winner]}
        )
        stage.table("candidates", table)
        means, lows, highs = (
            [one[f"cv_accuracy_{name}"] for one in shown.values()] for name in ("mean", "low", "high")
        )
        figure = figures.candidates(
            list(shown),
            means,
            lows,
            highs,
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
