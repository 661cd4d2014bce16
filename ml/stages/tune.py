"""Tune: the networks that the searches found, judged out of fold: each fold by what the search without it found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pandas as pd

from ml import crossvalidation, figures
from ml.crossvalidation import Fold
from ml.models import hypermodel
from ml.models.complexity import multiply_adds
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages import search as searching
from ml.stages.job import Findings, Job, perform
from ml.stages.networks import Networks
from ml.stages.scratch import Bench
from ml.tracking import StageRun

STAGE = "tune"
ALL = "none"
"""What the table of trials calls the outer fold of the search that sees every fold."""


def run(job: Job, searches: Sequence[StageResult]) -> StageResult:
    """Judge what the searches found, the first of which saw all folds; if it is the only one, that is optimistic."""
    choices = searching.choices_of(job)

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        tables = {_outer(result): job.tracker.read_table(result.run_id, searching.TRIALS) for result in searches}
        space = keras_tuner.HyperParameters()
        hypermodel.declare(space)
        best = {outer: searching.configuration_in(dict(table.iloc[0]), space) for outer, table in tables.items()}
        bench = Bench.of(job, hypermodel.SIDE, choices["negatives"], choices["seed"])
        networks = Networks(bench)
        by_fold = {int(fold): best.get(fold, best[None]) for fold in sorted(set(bench.folds))}

        def judge(fold: int) -> Fold:
            return bench.judge(
                fold, lambda places, watched: networks.fit(by_fold[fold], choices["epochs"], places, watched, STAGE)
            )

        metrics = evaluation.cross_validate(stage, job.dataset, checkpoints, judge, choices["seed"])
        table = _together(tables)
        stage.table(searching.TRIALS, table)
        stage.figure("search", figures.search(table, list(best[None]), job.animal))
        stage.log({"trials": len(table)})
        settings = choices | {"config": best[None], "by_fold": {str(fold): found for fold, found in by_fold.items()}}
        network = hypermodel.build(best[None], choices["seed"], epochs=1, steps=1)
        cost = multiply_adds(network, hypermodel.SIDE, hypermodel.SIDE)
        summary = f"{evaluation.sentence(metrics)}; {_how(len(tables[None]), choices)}"
        return Findings(summary, metrics, (Candidate(STAGE, cost, metrics["cv_accuracy_mean"], settings),))

    result = perform(job, STAGE, choices, work)
    crossvalidation.forget(searching.fits_folder(job))
    return result


def final_model(job: Job, settings: dict) -> keras.Model:
    """Return the network of the configuration that the search on all folds found, trained on all folds."""
    bench = Bench.of(job, hypermodel.SIDE, settings["negatives"], settings["seed"])
    return Networks(bench).fit(settings["config"], settings["epochs"], bench.trained_on(), name=STAGE)[0]


def _outer(result: StageResult) -> int | None:
    return searching.outer_fold(result.stage.removeprefix(f"{searching.STAGE} "))


def _together(tables: Mapping[int | None, pd.DataFrame]) -> pd.DataFrame:
    """Return the trials of all searches, with the column `outer_fold` first."""
    named = {ALL if outer is None else str(outer): table.sort_values("trial") for outer, table in tables.items()}
    return pd.concat(named, names=["outer_fold"]).reset_index("outer_fold").reset_index(drop=True)


def _how(trials: int, choices: Mapping[str, Any]) -> str:
    if choices["mode"] == "nested":
        return f"searched inside each fold, {trials} trials each"
    return f"optimistic: the search of {trials} trials saw every fold that it is judged on"
