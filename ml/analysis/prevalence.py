"""How many photos show the animal, and how many of those found are right, from the scores themselves.

A classifier's probability p is calibrated as if the animal were on every second photo. Where it is on a share s of the
photos, its probability is p s / (p s + (1 - p)(1 - s)). The share that fits the scores best is the fixed point of the
EM algorithm of Saerens, Latinne & Decaestecker (Neural Computation 14, 2002). All of it assumes that photos with and
without the animal get the scores that such photos got out of fold; an animal that no folder holds breaks that.

Scores are counted in bins of their log-odds, so memory doesn't grow with the number of photos.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from ml.analysis.classification import THRESHOLD
from ml.analysis.intervals import Photos, Z, share_interval

LOG_ODDS = np.linspace(-16, 16, 3201)
"""The middles of the bins; scores beyond count as the outermost."""
RATIOS = np.exp(LOG_ODDS)
"""How many times as probable a score is with the animal as without."""


def threshold(prevalence: float | None) -> float:
    """From which probability on a photo is more likely to show the animal than not; .5 where the share isn't known."""
    return THRESHOLD if prevalence is None else 1 - prevalence


@dataclass(frozen=True)
class Estimate:
    """What the scores say, each with the ends of its 95 % interval.

    Attributes:
        share: of the photos, from 0 to 1, that show the animal; that which was given has no interval.
        right: how many of the photos found are expected to show it.
    """

    share: float
    share_low: float
    share_high: float
    right: float
    right_low: float
    right_high: float


@dataclass
class Scores:
    """How many photos got which score, and how many of them were found."""

    every: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LOG_ODDS), np.int64))
    found: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LOG_ODDS), np.int64))

    def add(self, probabilities: ArrayLike, is_found: ArrayLike) -> None:
        """Count photos by their probability and whether they were found, both [N]."""
        odds = logit(np.asarray(probabilities, np.float64))
        step = LOG_ODDS[1] - LOG_ODDS[0]
        bins = np.rint((np.clip(odds, LOG_ODDS[0], LOG_ODDS[-1]) - LOG_ODDS[0]) / step).astype(int)
        np.add.at(self.every, bins, 1)
        np.add.at(self.found, bins[np.asarray(is_found, bool)], 1)

    def estimate(self, prevalence: float | None = None) -> Estimate | None:
        """What the photos counted say, `prevalence` being the share if it is known; nothing where there are none."""
        if not self.every.any():
            return None
        share, low, high = [prevalence] * 3 if prevalence is not None else self._likeliest_share()
        right, at_low, at_high = (self._right(chosen) for chosen in (share, low, high))
        return Estimate(share, low, high, right.mean, at_low.low, min(at_high.high, float(self.found.sum())))

    def _likeliest_share(self) -> tuple[float, float, float]:
        """The share of the greatest likelihood, and its likelihood-ratio interval."""
        likeliest = _crossing(lambda share: float(self.every @ ((RATIOS - 1) / (share * (RATIOS - 1) + 1))), 0.0, 1.0)
        enough = self._log_likelihood(likeliest) - Z**2 / 2
        low = _crossing(lambda share: enough - self._log_likelihood(share), 0.0, likeliest)
        return likeliest, low, _crossing(lambda share: self._log_likelihood(share) - enough, likeliest, 1.0)

    def _log_likelihood(self, share: float) -> float:
        return float(self.every @ np.log(share * (RATIOS - 1) + 1))

    def _right(self, share: float) -> "_Count":
        probable = expit(LOG_ODDS + logit(share))
        return _Count(float(self.found @ probable), float(np.sqrt(self.found @ (probable * (1 - probable)))))


@dataclass(frozen=True)
class _Count:
    """A number of photos that are each right or not: its mean and standard deviation (Poisson binomial)."""

    mean: float
    deviation: float

    @property
    def low(self) -> float:
        return max(self.mean - Z * self.deviation, 0.0)

    @property
    def high(self) -> float:
        return self.mean + Z * self.deviation


def operating_points(out_of_fold: pd.DataFrame, thresholds: ArrayLike) -> pd.DataFrame:
    """What is found at each threshold, one row each.

    `out_of_fold` has the columns `label`, `class`, `group`, `probability` and, where it is measured, `unseen`
    (`ml.analysis.unseen`). Columns returned: `threshold`, `sensitivity`, `false_alarms` (the share of photos of other
    animals that are found), `unseen_false_alarms` (the same of classes left out of training, if measured), and `_low`,
    `_high` of their 95 % intervals. Classes of other animals count the same.
    """
    labels, classes = out_of_fold["label"].to_numpy(bool), out_of_fold["class"].to_numpy(str)
    judged = {"false_alarms": (Photos.of(labels, classes, out_of_fold["group"]), out_of_fold["probability"].to_numpy())}
    if "unseen" in out_of_fold:
        inside = labels | out_of_fold["unseen"].notna().to_numpy()
        of_classes = Photos.of(labels[inside], classes[inside], classes[inside])
        judged["unseen_false_alarms"] = of_classes, out_of_fold["unseen"].to_numpy()[inside]
    rows = []
    for chosen in np.atleast_1d(thresholds):
        called = {name: photos.sides((found >= chosen).astype(float)) for name, (photos, found) in judged.items()}
        sides = {"sensitivity": called["false_alarms"][0]} | {name: others for name, (_, others) in called.items()}
        row = {"threshold": float(chosen)}
        for name, side in sides.items():
            low, high = share_interval(side)
            row |= {name: side.mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def thresholds(out_of_fold: pd.DataFrame, sensitivities: ArrayLike) -> NDArray[np.float64]:
    """The highest thresholds at which at least these shares of the animal's photos are found out of fold."""
    of_animal = np.sort(out_of_fold["probability"][out_of_fold["label"].to_numpy(bool)].to_numpy())
    missed = np.floor(np.round(len(of_animal) * (1 - np.atleast_1d(sensitivities)), 6)).astype(int)
    return of_animal[missed]


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero between `low` and `high`; the nearer end if it doesn't."""
    if falling(low) <= 0:
        return low
    return high if falling(high) >= 0 else float(brentq(falling, low, high))
