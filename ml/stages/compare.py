"""Comparison: which candidate is chosen, and what it is really worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import classification, selection
from ml.analysis.selection import Answers
from ml.errors import DataError
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.answers import answers_of
from ml.stages.evaluation import COURSE_METRICS, OUT_OF_FOLD, unseen_sentence, worst_classes
from ml.stages.job import Findings, Job, animal_named, perform
from ml.tracking import StageRun

STAGE = "compare"


def run(job: Job, results: Sequence[StageResult]) -> StageResult:
    """Choose the simplest candidate within one standard error of the best: see `ml.analysis.selection`.

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
        "apart": animal_named(job.animal, job.settings).apart,
    }

    def work(stage: StageRun, _: Path) -> Findings:
        tables = {candidate.name: job.tracker.read_table(result.run_id, OUT_OF_FOLD) for candidate, result in proposed}
        answers = answers_of(tables)
        costs = {candidate.name: candidate.complexity for candidate, _ in proposed}
        eligible = answers.eligible()
        winner = selection.choose(answers.credits(eligible), answers.photos, costs)
        worth = selection.selected_accuracy(answers, eligible, costs, job.params.seed)
        labels = answers.photos.labels
        n = classification.draw_size(labels.sum(), (~labels).sum())

        metrics = {candidate.name: _with_course(result, candidate) for candidate, result in proposed}
        shown = metrics | {result.stage: _with_course(result) for result in references}
        optimistic = _optimistic([candidate for candidate, _ in proposed])
        columns = dict.fromkeys(name for one in shown.values() for name in one)
        table = pd.DataFrame(
            {"candidate": list(shown), "chosen": [name == winner for name in shown]}
            | {"optimistic": [name in optimistic for name in shown]}
            | {"million_multiply_adds": [costs.get(name, float("nan")) for name in shown]}
            | {key: [one.get(key, float("nan")) for one in shown.values()] for key in columns}
        )
        stage.table("candidates", table)
        for name, judged in _without(job, tables).items():
            stage.table(f"without_{name}", judged)
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
        timed = {name: one for name, one in shown.items() if "milliseconds_a_photo" in one}
        if timed:
            stage.figure("cost", figures.cost_of_accuracy(timed, job.animal, n, winner))
        stage.table(OUT_OF_FOLD, tables[winner])
        points = evaluation.operating(tables[winner])
        stage.table(evaluation.OPERATING_POINTS, points)
        found = metrics[winner] | evaluation.operating_metrics(points)
        found |= {
            "selected_accuracy": worth.accuracy,
            "selected_accuracy_low": worth.low,
            "selected_accuracy_high": worth.high,
        }
        summary = (
            f"{winner} is chosen among {len(tables)}, the simplest within one standard error of the best"
            f"{_basis(answers, eligible)}; corrected for the choice its balanced accuracy is {worth.accuracy:.1%} "
            f"({worth.low:.1%} to {worth.high:.1%}){_unseen(tables[winner], found, job.animal)}"
        )
        return Findings(summary, found, tuple(candidate for candidate, _ in proposed if candidate.name == winner))

    return perform(job, STAGE, choices, work)


def _basis(answers: Answers, eligible: Sequence[str]) -> str:
    """Return in words whether unseen classes counted in the choice, and which candidates were passed over for that."""
    passed_over = [name for name in answers.correct if name not in eligible]
    measured = [name for name in answers.unseen if not np.isnan(answers.unseen[name]).all()]
    if not measured:
        return ""
    if set(measured) != set(eligible):
        return f", by photos of known classes alone, as unseen ones aren't measured for all ({', '.join(eligible)})"
    without = f"; unseen classes aren't measured for {', '.join(passed_over)}" if passed_over else ""
    return f", unseen classes counting for half of the others' photos{without}"


def _unseen(predictions: pd.DataFrame, metrics: dict[str, float], animal: str) -> str:
    said = unseen_sentence(metrics, animal)
    if not said:
        return "; how it does on animals that no folder holds is not measured"
    return f"; {said}, most often {worst_classes(predictions)}"


def _optimistic(candidates: Sequence[Candidate]) -> set[str]:
    """Return the names of those for which something was chosen with the photos that they are judged on.

    A search in the mode `once` chose on all photos. Fine-tuning takes the network that was best out of fold, and the
    average takes what is fine-tuned.
    """
    networks = sum(candidate.name.startswith("transfer ") for candidate in candidates)
    found = {one.name for one in candidates if one.settings.get("mode") == "once"}
    found |= {one.name for one in candidates if one.name.startswith("finetune ") and networks > 1}
    return found | {
        one.name for one in candidates if any(member["name"] in found for member in one.settings.get("members", []))
    }


def _with_course(result: StageResult, candidate: Candidate | None = None) -> dict[str, float]:
    """Return the metrics, those of training on balanced draws included: what trains on nothing else has them anyway.

    A result without candidate is a reference, and trains on balanced draws.
    """
    balanced = candidate is None or candidate.settings.get("negatives") == "balanced"
    same = {f"course_{name}": result.metrics[f"cv_{name}"] for name in COURSE_METRICS}
    return (same if balanced else {}) | result.metrics


def _without(job: Job, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return, for each group of photos that the animal has `apart`, the candidates' metrics without it.

    `tables` are the candidates' out-of-fold predictions. Groups that no photo belongs to are passed over.
    """
    animal = animal_named(job.animal, job.settings)
    first = next(iter(tables.values()))
    labels = first.label.to_numpy(bool)
    found = {}
    for name in animal.apart:
        inside = np.array(
            [label and animal.is_apart(path, name) for path, label in zip(first.path, labels, strict=True)]
        )
        if not 0 < inside.sum() < labels.sum():
            continue
        kept = {candidate: table[~inside] for candidate, table in tables.items()}
        judged = [evaluation.scored(rows, rows.probability.to_numpy(), job.params.seed) for rows in kept.values()]
        found[name] = pd.DataFrame({"candidate": list(kept), "photos_left_out": int(inside.sum())}).join(
            pd.DataFrame(judged)
        )
    return found
