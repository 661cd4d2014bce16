"""Regularise: the tuned network with dropout, batch normalisation and L2, each alone and in every combination."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml import figures, progress
from ml.analysis import classification
from ml.crossvalidation import Fold, cross_validate, pool
from ml.models import hypermodel
from ml.models.hypermodel import Configuration
from ml.results import StageResult
from ml.stages.job import Findings, Job, perform
from ml.stages.networks import Networks
from ml.stages.scratch import Bench
from ml.tracking import StageRun

Switched = Mapping[str, bool]
"""Which regularisations are on."""

STAGE = "regularise"
TABLE = "regularisation"

STANDARD: dict[str, Any] = {"dropout": 0.3, "batch_norm": True, "l2": 1e-3}
"""What is switched on where the tuned configuration has it off; where it has it on, its own strength counts."""
OFF: dict[str, Any] = {"dropout": 0.0, "batch_norm": False, "l2": 0.0}
WORDS = {"dropout": "dropout", "batch_norm": "batch norm", "l2": "L2"}


def run(job: Job, tuned: StageResult) -> StageResult:
    """Judge every combination on the folds, each fold with the configuration that was tuned without it.

    A combination overfits if the accuracy on the photos trained on lies above the 95 % interval of that on those left
    out. It proposes no candidate.
    """
    (candidate,) = tuned.candidates
    settings = candidate.settings
    choices = {name: settings[name] for name in ("by_fold", "epochs", "negatives", "seed", "side")}
    choices["standard"] = STANDARD

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        bench = Bench.of(job, hypermodel.SIDE, settings["negatives"], settings["seed"])
        networks = Networks(bench)
        rows = []
        for switches in progress.each("combination", list(product((False, True), repeat=len(STANDARD)))):
            switched = dict(zip(STANDARD, switches, strict=True))
            name = _name(switched)

            def judge(fold: int, switched: Switched = switched, name: str = name) -> Fold:
                configuration = with_only(switched, settings["by_fold"][str(fold)])
                return bench.judge(
                    fold,
                    lambda places, watched: networks.fit(configuration, settings["epochs"], places, watched, name),
                )

            folds = cross_validate(sorted(np.unique(bench.folds)), checkpoints / name, judge)
            rows.append({"name": name, **switched, **_judged(bench, folds)})
            numbers = {key: value for key, value in rows[-1].items() if "accuracy" in key or key == "overfit_gap"}
            stage.child(name, numbers, _mean_curves(folds), switched)
        table = pd.DataFrame(rows)
        stage.table(TABLE, table)
        n = classification.draw_size(bench.labels.sum(), (1 - bench.labels).sum())
        stage.figure(TABLE, figures.regularisations(table, job.animal, n))
        best = max(rows, key=lambda row: row["cv_accuracy_mean"])
        summary = (
            f"best with {best['name']}: accuracy {best['cv_accuracy_mean']:.1%} ({best['cv_accuracy_low']:.1%} to "
            f"{best['cv_accuracy_high']:.1%}); {table.overfits.sum()} of {len(table)} overfit"
        )
        return Findings(summary, {"variants": float(len(table)), "overfitting": float(table.overfits.sum())})

    return perform(job, STAGE, choices, work)


def with_only(switched: Switched, configuration: Configuration) -> Configuration:
    """Return the configuration with these regularisations on or off; its own strength goes before the standard one."""
    strengths = {name: (configuration[name] or STANDARD[name]) if on else OFF[name] for name, on in switched.items()}
    return configuration | strengths


def _name(switched: Switched) -> str:
    return " + ".join(WORDS[name] for name, on in switched.items() if on) or "none"


def _judged(bench: Bench, folds: Sequence[Fold]) -> dict[str, Any]:
    probabilities = np.nan_to_num(pool(folds, len(bench.labels)), nan=0.5)  # a fit that diverged tells nothing
    found = classification.evaluate(bench.labels, probabilities, bench.classes, bench.folds, bench.seed)
    trained = float(np.mean([fold.metrics["train_accuracy"] for fold in folds]))
    return {
        **{name: value for name, value in found.items() if name.startswith("cv_accuracy")},
        "train_accuracy_mean": trained,
        "overfit_gap": trained - found["cv_accuracy_mean"],
        "overfits": trained > found["cv_accuracy_high"],
    }


def _mean_curves(folds: Sequence[Fold]) -> dict[str, list[float]]:
    return {name: np.mean([fold.curves[name] for fold in folds], axis=0).tolist() for name in folds[0].curves}
