"""Search: keras-tuner looks for a network from scratch, once on all folds and, if nested, once without each fold."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ml import fingerprint
from ml.analysis.classification import balanced_draws, draw_weights
from ml.errors import LostError, ParameterError
from ml.models import hypermodel
from ml.models.hypermodel import Configuration
from ml.results import StageResult
from ml.stages.job import Findings, Job, perform
from ml.stages.networks import Networks
from ml.stages.scratch import Bench, negatives_of
from ml.tracking import StageRun, work_key
from ml.tuning import Fit, Fits, Plan, Trial, ranked, search

log = logging.getLogger(__name__)

STAGE = "search"
TRIALS = "trials"
HANDED_ON = 5
"""Configurations that a search hands on to the same search of the next retrain."""


def searches(job: Job) -> list[str]:
    """Return the names of the searches that the job's `tune_mode` asks for: the one on all folds, then the others.

    A name tells the number of folds too: dealt into other folds, what was found without one may have seen it.

    Raises:
        ParameterError: a nested search of two folds, which would leave nothing to train on.
    """
    folds = _folds(job)
    if job.params.tune_mode != "nested":
        return [f"all {len(folds)} folds"]
    if len(folds) < 3:
        raise ParameterError(f"A nested search needs 3 folds or more. Received: {len(folds)}. Set tune_mode: once.")
    return [f"all {len(folds)} folds", *(f"without fold {fold} of {len(folds)}" for fold in folds)]


def run(job: Job, name: str) -> StageResult:
    """Do the search `name` of `searches`; the run's table of trials has the best first.

    The searches may run at once, on several workers, and share what they fit.
    """
    choices = choices_of(job)

    def work(stage: StageRun, _: Path) -> Findings:
        folds, outer = _folds(job), outer_fold(name)
        bench = Bench.of(job, hypermodel.SIDE, choices["negatives"], choices["seed"])
        judging = Judging(bench, Networks(bench))
        space = keras_tuner.HyperParameters()
        hypermodel.declare(space)
        # Each fit without two folds serves two searches, so all together take about the minutes that were given.
        minutes = choices["minutes"] / (1 if choices["mode"] == "once" else 1 + len(folds) / 2)
        plan = Plan(choices["strategy"], choices["trials"], minutes, choices["epochs"], choices["seed"])
        fits = Fits(fits_folder(job), judging.fit)
        start = _start(job, name, space)
        trials = search(plan, space, outer, folds, start, fits, judging.score, lambda trial: _log(stage, trial))
        stage.table(TRIALS, table_of(ranked(trials)))
        metrics = {"trials": len(trials), "fits_asked_for": fits.asked, "minutes": fits.seconds / 60}
        return Findings(f"{len(trials)} trials, the best with an AUC of {ranked(trials)[0].score:.3f}", metrics)

    return perform(job, f"{STAGE} {name}", choices, work)


def choices_of(job: Job) -> dict[str, Any]:
    """Return what all searches of a job have in common."""
    return {
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


def outer_fold(name: str) -> int | None:
    """Return the fold that the search of this name never sees; `None` if it sees all."""
    return int(name.split()[2]) if name.startswith("without") else None


def fits_folder(job: Job) -> Path:
    """Return where the searches of a job keep their fits; they are needed until the last search has ended."""
    return (
        job.settings.home
        / "work"
        / job.parent
        / work_key("fits", job.digest, choices_of(job), fingerprint.of(__name__))
    )


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


def table_of(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial: its number, its score, and a column for every hyper-parameter."""
    rows = [
        {
            "trial": trial.number,
            "score": trial.score,
            "folds_judged": len(trial.scores),
            "stopped": trial.stopped,
            "epochs": trial.epochs,
            "seconds": trial.seconds,
            **trial.configuration,
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def configuration_in(row: Mapping[Any, Any], space: keras_tuner.HyperParameters) -> Configuration:
    """Return the configuration that a row of the table of trials holds."""
    return {hp.name: type(hp.default)(row[hp.name]) for hp in space.space}


def _start(job: Job, name: str, space: keras_tuner.HyperParameters) -> list[Configuration]:
    """Return what the search begins with: the best that the same search found last time, else the standard ones.

    Folds stay over dataset versions, so what was found without a fold has still not seen it.
    """
    earlier = job.tracker.last_finished(job.animal, f"{STAGE} {name}")
    if earlier is None:
        return list(hypermodel.START)
    try:
        table = job.tracker.read_table(earlier, TRIALS)
    except LostError as error:
        log.warning("search: it begins with the standard networks, as the trials of the last are gone: %s", error)
        return list(hypermodel.START)
    log.info("search: it begins with the best of the last, MLflow run %s", earlier)
    rows = [row for row in table.to_dict("records") if _possible(row, space)][:HANDED_ON]
    return [configuration_in(row, space) for row in rows] or list(hypermodel.START)


def _possible(row: Mapping[Any, Any], space: keras_tuner.HyperParameters) -> bool:
    """Return whether the space still has what an earlier search tried."""
    try:
        found = configuration_in(row, space)
        return all(0 <= hp.value_to_prob(found[hp.name]) <= 1 for hp in space.space)
    except (KeyError, ValueError):
        return False


def _folds(job: Job) -> list[int]:
    return sorted(int(fold) for fold in job.dataset.training.fold.unique())


def _log(stage: StageRun, trial: Trial) -> None:
    metrics = {"score": trial.score, "stopped": float(trial.stopped), "seconds": trial.seconds}
    stage.child(f"trial {trial.number:02d}", metrics, trial.curves, trial.configuration | {"epochs": trial.epochs})
