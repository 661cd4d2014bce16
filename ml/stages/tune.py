"""Tune: a network from scratch, its hyper-parameters searched inside each fold, so that its accuracy is honest."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ml import figures
from ml.analysis.classification import balanced_draws, draw_weights
from ml.crossvalidation import Fold
from ml.errors import ParameterError
from ml.models import hypermodel
from ml.models.complexity import multiply_adds
from ml.models.hypermodel import Configuration
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.job import Findings, Job, perform
from ml.stages.networks import Networks
from ml.stages.scratch import Bench, negatives_of
from ml.tracking import StageRun
from ml.tuning import Fit, Fits, Plan, Trial, ranked, search

log = logging.getLogger(__name__)

STAGE = "tune"
TRIALS = "trials"
HANDED_ON = 5
"""Configurations that a search hands on to the same search of the next retrain."""
NO_FOLD = "none"
"""What the table of trials calls the outer fold of the search that sees every fold."""


def run(job: Job) -> StageResult:
    """Search on all folds and, if nested, inside each fold too; judge what was found out of fold.

    Raises:
        ParameterError: a nested search of two folds, which would leave nothing to train on.
    """
    choices: dict[str, Any] = {
        "seed": job.params.seed,
        "negatives": negatives_of(job),
        "side": hypermodel.SIDE,
        "padding": None,
        "mode": job.params.tune_mode,
        "strategy": job.params.tune_strategy,
        "trials": job.params.tune_trials,
        "minutes": job.params.tune_minutes,
        "epochs": job.params.tune_epochs,
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        bench = Bench.of(job, hypermodel.SIDE, choices["negatives"], choices["seed"])
        networks = Networks(bench)
        judging = Judging(bench, networks)
        folds = sorted(int(fold) for fold in job.dataset.training.fold.unique())
        if choices["mode"] == "nested" and len(folds) < 3:
            raise ParameterError(f"A nested search needs 3 folds or more. Received: {len(folds)}. Set tune_mode: once.")
        space = keras_tuner.HyperParameters()
        hypermodel.declare(space)
        plan = Plan(*(choices[name] for name in ("strategy", "trials", "minutes", "epochs", "seed")))
        fits = Fits(checkpoints / "fits", judging.fit)
        starts = _starts(job, space, [None, *folds] if choices["mode"] == "nested" else [None])
        trials = search(plan, space, folds, starts, fits, judging.score, lambda trial: _log(stage, trial))

        best = {outer: ranked(tried)[0].configuration for outer, tried in trials.items()}
        by_fold = {fold: best.get(fold, best[None]) for fold in folds}

        def judge(fold: int) -> Fold:
            return bench.judge(
                fold, lambda places, watched: networks.fit(by_fold[fold], plan.epochs, places, watched, STAGE)
            )

        metrics = evaluation.cross_validate(stage, job.dataset, checkpoints, judge, choices["seed"])
        table = table_of(trials)
        stage.table(TRIALS, table)
        stage.figure("search", figures.search(table, list(best[None]), job.animal))
        stage.log({"trials": len(table), "fits": fits.done, "fits_asked_for": fits.asked, "minutes": fits.seconds / 60})
        settings = choices | {"config": best[None], "by_fold": {str(fold): found for fold, found in by_fold.items()}}
        network = hypermodel.build(best[None], choices["seed"], epochs=1, steps=1)
        cost = multiply_adds(network, hypermodel.SIDE, hypermodel.SIDE)
        summary = f"{evaluation.sentence(metrics)}; {_how(trials, choices)}"
        return Findings(summary, metrics, (Candidate(STAGE, cost, metrics["cv_accuracy_mean"], settings),))

    return perform(job, STAGE, choices, work)


def final_model(job: Job, settings: dict) -> keras.Model:
    """Return the network of the configuration that the search on all folds found, trained on all folds."""
    bench = Bench.of(job, hypermodel.SIDE, settings["negatives"], settings["seed"])
    return Networks(bench).fit(settings["config"], settings["epochs"], bench.trained_on(), name=STAGE)[0]


class Judging:
    """How a configuration is fitted without some folds, and how it is judged on them."""

    def __init__(self, bench: Bench, networks: Networks) -> None:
        self._bench, self._networks = bench, networks
        self._weights = np.zeros(len(bench.labels))
        for fold in np.unique(bench.folds):
            inside = np.flatnonzero(bench.folds == fold)
            draws = balanced_draws(bench.labels[inside], bench.classes[inside], bench.seed)
            self._weights[inside] = draw_weights(draws, len(inside))

    def fit(self, configuration: Configuration, epochs: int, left_out: frozenset[int]) -> Fit:
        """Return the probabilities of those photos left out that are needed to score the fit."""
        bench = self._bench
        trained = bench.trained_on(*left_out)
        wanted = np.flatnonzero(np.isin(bench.folds, list(left_out)) & (self._weights > 0))
        network, curves = self._networks.fit(configuration, epochs, trained)
        probabilities = np.full(len(bench.labels), np.nan, np.float32)
        probabilities[wanted] = bench.predict(network, wanted)
        return Fit(probabilities, curves)

    def score(self, fold: int, probabilities: np.ndarray) -> float:
        """Return the ROC-AUC on balanced draws of the fold.

        On fox photos it tells configurations apart as well as the accuracy does, and much better than the log loss,
        which asks for calibrated probabilities too; it is finer than the accuracy, for which a photo is right or wrong.
        """
        inside = np.flatnonzero((self._bench.folds == fold) & (self._weights > 0))
        given = np.nan_to_num(probabilities[inside], nan=0.5)  # a fit that diverged tells nothing
        return float(roc_auc_score(self._bench.labels[inside], given, sample_weight=self._weights[inside]))


def table_of(trials: Mapping[int | None, Sequence[Trial]]) -> pd.DataFrame:
    """Return one row a trial: which search, its number, its score, and a column for every hyper-parameter."""
    rows = [
        {
            "outer_fold": NO_FOLD if trial.outer is None else str(trial.outer),
            "trial": trial.number,
            "score": trial.score,
            "folds_judged": len(trial.scores),
            "stopped": trial.stopped,
            "epochs": trial.epochs,
            "seconds": trial.seconds,
            **trial.configuration,
        }
        for tried in trials.values()
        for trial in tried
    ]
    return pd.DataFrame(rows)


def _log(stage: StageRun, trial: Trial) -> None:
    name = f"trial {trial.number:02d}" + ("" if trial.outer is None else f" without fold {trial.outer}")
    metrics = {"score": trial.score, "stopped": float(trial.stopped), "seconds": trial.seconds}
    stage.child(name, metrics, trial.curves, trial.configuration | {"epochs": trial.epochs})


def _how(trials: Mapping[int | None, Sequence[Trial]], choices: Mapping[str, Any]) -> str:
    if choices["mode"] == "nested":
        return f"searched inside each fold, {len(trials[None])} trials each"
    return f"optimistic: the search of {len(trials[None])} trials saw every fold that it is judged on"


def _starts(
    job: Job, space: keras_tuner.HyperParameters, outers: Sequence[int | None]
) -> dict[int | None, list[Configuration]]:
    """Return what each search begins with: the best that the same search found last time, else the standard ones.

    Folds stay over dataset versions, so what was found without a fold has still not seen it. If the folds are others
    than last time, nothing is handed on.
    """
    starts: dict[int | None, list[Configuration]] = {outer: list(hypermodel.START) for outer in outers}
    earlier = job.tracker.last_finished(job.animal, STAGE)
    if earlier is None:
        return starts
    table = job.tracker.read_table(earlier, TRIALS)
    table = table.sort_values(["epochs", "stopped", "score"], ascending=[False, True, False], kind="stable")
    searched = dict(list(table.groupby("outer_fold", sort=False)))
    names = {outer: NO_FOLD if outer is None else str(outer) for outer in outers}
    if len(outers) > 1 and searched.keys() != set(names.values()):
        return starts
    for outer, name in names.items():
        found = [_valid(space, row) for row in searched[name].to_dict("records")]
        starts[outer] = [configuration for configuration in found if configuration][:HANDED_ON] or starts[outer]
    log.info("tune: each search begins with the best of the last, MLflow run %s", earlier)
    return starts


def _valid(space: keras_tuner.HyperParameters, values: Mapping[Any, Any]) -> Configuration | None:
    """Return the configuration that a row of the table of trials holds, if the space still has it."""
    try:
        configuration = {hp.name: type(hp.default)(values[hp.name]) for hp in space.space}
        inside = all(0 <= hp.value_to_prob(configuration[hp.name]) <= 1 for hp in space.space)
    except (KeyError, ValueError):
        return None
    return configuration if inside else None
