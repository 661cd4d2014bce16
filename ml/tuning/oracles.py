"""Where the next configuration comes from: keras-tuner's oracles, begun with given ones, and one of our own."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import keras_tuner
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle

from ml.tuning.fits import Configuration

GRID_STEP = 0.3
"""How far the grid goes from the best value, as a part of the hyper-parameter's range."""


class Started:
    """Begins an oracle with given configurations: they all draw by `_random_values`."""

    start: Sequence[Configuration] = ()

    def _random_values(self) -> Configuration | None:
        left = [dict(point) for point in self.start if not self._duplicate(point)]  # type: ignore[attr-defined]
        return left[0] if left else super()._random_values()  # type: ignore[misc]


class RandomOracle(Started, RandomSearchOracle):
    """Random search (Bergstra & Bengio 2012)."""


class GridOracle(RandomOracle):
    """Random search for half of the trials, then the grid around the best: one value of it changed at a time."""

    random_trials = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if len(self.trials) >= self.random_trials:
            for values in self._around_the_best():
                if not self._duplicate(values):
                    return {"status": "RUNNING", "values": values}
        return super().populate_space(trial_id)

    def _around_the_best(self) -> Iterator[Configuration]:
        best = self.get_best_trials()[0].hyperparameters.values
        # In an order of its own, as few trials get round; the same in all searches, so that they share fits.
        directions = list(product(self.hyperparameters.space, (GRID_STEP, -GRID_STEP)))
        for parameter, step in random.Random(self.seed).sample(directions, len(directions)):
            place = parameter.value_to_prob(best[parameter.name]) + step
            if 0 <= place < 1:
                yield {**best, parameter.name: parameter.prob_to_value(place)}


class HalvingOracle(Started, HyperbandOracle):
    """Hyperband (Li 2018); every trial is fitted from its beginning."""


class BayesianOracle(Started, BayesianOptimizationOracle):
    """Gaussian process and upper confidence bound (Srinivas 2010)."""


STRATEGIES: Mapping[str, type[keras_tuner.Oracle]] = {
    "random+grid": GridOracle,
    "random": RandomOracle,
    "hyperband": HalvingOracle,
    "bayesian": BayesianOracle,
}


def make_oracle(
    strategy: str,
    space: keras_tuner.HyperParameters,
    start: Sequence[Configuration],
    *,
    trials: int,
    epochs: int,
    seed: int,
) -> keras_tuner.Oracle:
    """Return an oracle that begins with `start` and maximises `score`; a function of its arguments and the scores.

    Of `trials` it draws half at random before it goes by their scores; `epochs` are those of a full trial.
    """
    half = max(2, trials // 2)
    options = {"hyperband": {"max_epochs": epochs}, "bayesian": {"num_initial_points": half}}
    oracle = STRATEGIES[strategy](
        objective=keras_tuner.Objective("score", "max"),
        hyperparameters=space.copy(),
        seed=seed + 1,  # keras-tuner takes 0 for "any"
        **options.get(strategy, {}),
    )
    oracle.start = start
    oracle.random_trials = half
    return oracle
