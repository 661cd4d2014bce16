"""A search whose fits are formulas, for tests of everything around them."""

import hashlib
import json
import time
from pathlib import Path

import keras_tuner
import numpy as np

from ml.tuning import Configuration, Fit, Fits, Plan, Trial, search

FOLDS = (0, 1, 2, 3)
PHOTOS = np.repeat(FOLDS, 10)
GOOD: Configuration = {"rate": 1e-3, "wide": True, "blocks": 2}
BAD: Configuration = {"rate": 1e-1, "wide": False, "blocks": 1}


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Boolean("wide")
    hp.Int("blocks", 1, 4)
    return hp


def quality(configuration: Configuration) -> float:
    off = abs(np.log10(configuration["rate"] / 1e-3)) + abs(configuration["blocks"] - 3)
    return 0.9 - 0.1 * off - 0.1 * (not configuration["wide"])


def plan(strategy: str = "random+grid", trials: int = 6, minutes: float = 60, seed: int = 0) -> Plan:
    return Plan(strategy, trials, minutes, epochs=9, seed=seed)


def fit(configuration: Configuration, epochs: int, left_out: frozenset[int]) -> Fit:
    """Return the configuration's quality with noise of its own; NaN for photos that were trained on."""
    key = json.dumps([configuration, epochs, sorted(left_out)], sort_keys=True)
    noise = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)).normal(0, 0.02, len(PHOTOS))
    probabilities = np.where(
        np.isin(PHOTOS, list(left_out)), quality(configuration) * (1 - 0.5**epochs) + noise, np.nan
    )
    return Fit(probabilities.astype(np.float32), {"loss": [1 / (epoch + 1) for epoch in range(epochs)]})


def score(fold: int, probabilities: np.ndarray) -> float:
    """Return the mean over the fold: NaN, and so never the best, if it was trained on."""
    return float(probabilities[fold == PHOTOS].mean())


def run(folder: Path, wanted: Plan, log: Path | None = None, outers: tuple = (None, *FOLDS)) -> dict:
    """Search with the fits of `folder`; note every fit that is begun in `log`, and take some time for it."""

    def noted(configuration: Configuration, epochs: int, left_out: frozenset[int]) -> Fit:
        if log:
            with log.open("a") as lines:
                lines.write(json.dumps([configuration, epochs, sorted(left_out)], sort_keys=True) + "\n")
            time.sleep(0.004)
        return fit(configuration, epochs, left_out)

    return {outer: search(wanted, space(), outer, FOLDS, [GOOD], Fits(folder, noted), score) for outer in outers}


def shown(trials: dict[int | None, list[Trial]]) -> list[tuple]:
    """Return what two searches must agree on: everything but the time that they took."""
    return [
        (outer, one.number, one.configuration, one.epochs, one.scores, one.stopped, one.curves)
        for outer, tried in trials.items()
        for one in tried
    ]
