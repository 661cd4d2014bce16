"""A search, which judges its trials on folds of its own."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

import keras_tuner
import numpy as np
from keras_tuner.engine.base_tuner import BaseTuner

from ml import progress
from ml.tuning.fits import Configuration, Fits
from ml.tuning.oracles import make_oracle

log = logging.getLogger(__name__)

QUARTILE = 0.75
INTERNAL = "tuner/"
"""What the names of Hyperband's own entries begin with."""


@dataclass(frozen=True)
class Plan:
    """How to search."""

    strategy: str
    """One of `STRATEGIES`."""
    trials: int
    """Trials a search; Hyperband, whose trials differ in length, gets as many epochs as these would take."""
    minutes: float
    """After this much time in fits no new trial starts."""
    epochs: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """A configuration and how a search judged it."""

    outer: int | None
    """The fold that the search never sees."""
    number: int
    configuration: Configuration
    epochs: int
    scores: tuple[float, ...]
    """One an inner fold; two if it was stopped."""
    stopped: bool
    seconds: float
    """Time of the fits that no other trial had needed before."""
    curves: dict[str, list[float]] = field(repr=False)
    """The mean over its fits."""

    @property
    def score(self) -> float:
        return mean(self.scores)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials, best first; one that was stopped, or had fewer epochs, comes after all others."""
    return sorted(trials, key=lambda trial: (trial.epochs, not trial.stopped, trial.score), reverse=True)


def search(
    plan: Plan,
    space: keras_tuner.HyperParameters,
    outer: int | None,
    folds: Sequence[int],
    start: Sequence[Configuration],
    fits: Fits,
    score: Callable[[int, np.ndarray], float],
    tell: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Search without the fold `outer`, or on all folds if it is `None`, beginning with the configurations `start`.

    `score(fold, probabilities)` says how well a fit judges the photos of a fold, higher being better. `tell` hears of
    every trial. Where only trials bind, and not minutes, the same arguments give the same trials.
    """
    with tempfile.TemporaryDirectory() as folder:
        tuner = CrossValidationTuner(outer, folds, plan, space, start, fits, score, tell, folder)
        while tuner.go_on():
            if fits.seconds >= 60 * plan.minutes:
                log.info("search: %.1f minutes are over; no new trial starts", plan.minutes)
                break
    return tuner.trials


class CrossValidationTuner(BaseTuner):
    """The search of one outer fold: a trial's score is the mean over the other folds.

    A trial is stopped after two folds if its mean there is below the upper quartile of what the finished trials had on
    the same two: the median stopping rule (Golovin 2017, section 3.2.2), stricter, as only the best trial counts.
    """

    def __init__(
        self,
        outer: int | None,
        folds: Sequence[int],
        plan: Plan,
        space: keras_tuner.HyperParameters,
        start: Sequence[Configuration],
        fits: Fits,
        score: Callable[[int, np.ndarray], float],
        tell: Callable[[Trial], None],
        folder: str,
    ) -> None:
        oracle = make_oracle(plan.strategy, space, start, trials=plan.trials, epochs=plan.epochs, seed=plan.seed)
        super().__init__(oracle, directory=folder, project_name=f"search-{outer}")
        oracle.verbose = 0
        self.outer, self.inner = outer, inner_folds(folds, outer)
        self.trials: list[Trial] = []
        self._plan, self._fits, self._score, self._tell = plan, fits, score, tell

    @property
    def epochs(self) -> int:
        """Those of all its trials."""
        return sum(trial.epochs for trial in self.trials)

    def go_on(self) -> bool:
        """Run one more trial, unless the plan is fulfilled or the oracle knows of no more; return whether it was."""
        had = len(self.trials)
        if self.epochs < self._plan.trials * self._plan.epochs:
            self.oracle.max_trials = had + 1
            whole = self.epochs // self._plan.epochs  # Hyperband's trials are shorter
            with progress.part("trial", min(whole + 1, self._plan.trials), self._plan.trials):
                self.search()
        return len(self.trials) > had

    def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> float:
        values = trial.hyperparameters.values
        epochs = values.get("tuner/epochs", self._plan.epochs)
        configuration = {name: value for name, value in values.items() if not name.startswith(INTERNAL)}
        finished = [other for other in self.trials if other.epochs == epochs and not other.stopped]

        before, first, others = self._fits.seconds, self.inner[:2], self.inner[2:]
        scores, curves = self._judge(configuration, epochs, first)
        stopped = bool(others and finished) and mean(scores) < np.quantile(
            [mean(other.scores[:2]) for other in finished], QUARTILE
        )
        if not stopped:
            more_scores, more_curves = self._judge(configuration, epochs, others)
            scores, curves = scores + more_scores, curves + more_curves
        averaged = {name: np.mean([curve[name] for curve in curves], axis=0).tolist() for name in curves[0]}
        seconds = self._fits.seconds - before
        done = Trial(self.outer, len(self.trials), configuration, epochs, tuple(scores), stopped, seconds, averaged)
        self.trials.append(done)
        self._log(done)
        self._tell(done)
        # Two folds may be easy ones: the oracle must not take a stopped trial for a good one.
        return min(done.score, median(other.score for other in finished)) if stopped else done.score

    def _judge(
        self, configuration: Configuration, epochs: int, folds: Sequence[int]
    ) -> tuple[list[float], list[dict[str, list[float]]]]:
        """Return a score and the curves for each of the folds, in this order."""
        left_out = [frozenset({fold} if self.outer is None else {fold, self.outer}) for fold in folds]
        fits = self._fits(configuration, epochs, left_out)
        scores = [self._score(fold, fit.probabilities) for fold, fit in zip(folds, fits, strict=True)]
        return scores, [fit.curves for fit in fits]

    def _try_run_and_update_trial(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Let an error end the search; keras-tuner would take it for a bad configuration."""
        self._run_and_update_trial(trial)
        trial.status = "COMPLETED"

    def _log(self, trial: Trial) -> None:
        # Hyperband's trials are shorter, and more.
        length = f" of {self._plan.trials}" if trial.epochs == self._plan.epochs else f", {trial.epochs} epochs"
        log.info(
            "search: trial %d%s%s, AUC %.3f%s, best %.3f, %.1f of %.1f minutes",
            trial.number + 1,
            length,
            "" if self.outer is None else f" without fold {self.outer}",
            trial.score,
            " (stopped)" if trial.stopped else "",
            ranked(self.trials)[0].score,
            self._fits.seconds / 60,
            self._plan.minutes,
        )


def inner_folds(folds: Sequence[int], outer: int | None) -> list[int]:
    """Return all folds but `outer`, its neighbours on the ring of folds first.

    So the first two inner folds of all searches are, of five folds, five pairs: what a configuration costs that every
    search stops after two.
    """
    others = [fold for fold in folds if fold != outer]
    if outer is None:
        return others
    return sorted(others, key=lambda fold: min((fold - outer) % len(folds), (outer - fold) % len(folds)))
