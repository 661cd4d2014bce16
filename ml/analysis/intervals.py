"""Accuracies on weighted photos, and their intervals.

*Accuracy* is one thing everywhere: half of the share that is right of the animal, half of that of the others, the
photos weighing as much as they are probable in a balanced draw (`classification.draw_probabilities`). Near-duplicates
stand or fall together, so what varies is the group, not the photo. `values` float[N] say what each photo counts: 1 if
right, or the difference of two candidates, from -1 to 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from ml.analysis.classification import draw_probabilities, wilson_interval

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

Z = 1.959964  # of 95 %


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos that candidates are judged on.

    Attributes:
        labels: bool[N], true for the animal.
        weights: float[N], how much each counts among those of its label.
        groups: int[N], the near-duplicate group of each.
    """

    labels: BoolArray
    weights: FloatArray
    groups: IntArray

    @classmethod
    def of(cls, labels: npt.ArrayLike, classes: npt.ArrayLike, groups: npt.ArrayLike) -> "Photos":
        """Weigh photos as balanced draws do; `classes` and `groups` may be names.

        Raises:
            DataError: there are none of the animal, or none of others.
        """
        labels = np.asarray(labels, bool)
        return cls(
            labels,
            draw_probabilities(labels, np.asarray(classes, str)),
            np.unique(np.asarray(groups), return_inverse=True)[1],
        )

    def sides(self, values: FloatArray) -> tuple["Side", "Side"]:
        """Return the animal's photos and the others, by group."""
        return self._side(values, self.labels), self._side(values, ~self.labels)

    def _side(self, values: FloatArray, inside: BoolArray) -> "Side":
        group, weights = np.unique(self.groups[inside], return_inverse=True)[1], self.weights[inside]
        return Side(np.bincount(group, weights * values[inside]) * 1.0, np.bincount(group, weights) * 1.0)


@dataclass(frozen=True, eq=False)
class Side:
    """Groups of one label: the sum of their photos' weighted values, and of their weights, float[G] each."""

    sums: FloatArray
    sizes: FloatArray

    @cached_property
    def mean(self) -> float:
        return float(self.sums.sum() / self.sizes.sum())

    @cached_property
    def n(self) -> float:
        """How many equal groups are worth as much as these (Kish 1965)."""
        return float(self.sizes.sum() ** 2 / (self.sizes**2).sum())

    @cached_property
    def variance(self) -> float:
        """Of the mean, from the groups (the linearised variance of a ratio)."""
        groups = len(self.sizes)
        spread = ((self.sums - self.mean * self.sizes) ** 2).sum() * groups / max(groups - 1, 1)
        return float(spread / self.sizes.sum() ** 2)


def accuracy(values: FloatArray, photos: Photos) -> float:
    """The mean of both sides' means; of differences it is the difference of the accuracies."""
    return sum(side.mean for side in photos.sides(values)) / 2


def standard_error(values: FloatArray, photos: Photos) -> float:
    """Of `accuracy`, which is what a bootstrap of the groups of each side gives; 0 where all photos count the same."""
    return float(np.sqrt(sum(side.variance for side in photos.sides(values)))) / 2


def accuracy_interval(correct: FloatArray, photos: Photos) -> tuple[float, float]:
    """The 95 % interval of an accuracy: `share_interval` of each side, joined by MOVER (Zou & Donner 2008)."""
    sides = photos.sides(np.asarray(correct, float))
    return _join([(side.mean, *share_interval(side)) for side in sides])


def difference_interval(gains: FloatArray, photos: Photos) -> tuple[float, float]:
    """The 95 % interval of a difference of accuracies: Tango's score interval (1998) for each side, joined by MOVER.

    It has a width where nothing differs, too: of 20 photos that both get right, one or two could have been lost.
    """
    return _join([(side.mean, *_score_interval(side)) for side in photos.sides(np.asarray(gains, float))])


def undecided_below(n_positives: float, n_negatives: float, margin: float) -> float:
    """How many groups of the animal it takes until answers that are all the same are within `margin` of each other.

    The groups of others are `n_negatives`, or as many if those are fewer. It is `n_positives` if those are enough.
    """

    def beyond(n: float) -> float:
        mine, others = (Z**2 / (side + Z**2) for side in (n, max(n, n_negatives)))
        return float(np.hypot(mine, others)) / 2 - margin

    return n_positives if beyond(n_positives) <= 0 else float(brentq(beyond, 1, Z**2 / margin + 1))


def _join(sides: list[tuple[float, float, float]]) -> tuple[float, float]:
    """The interval of the mean of independent estimates, each with its low and high."""
    means, lows, highs = np.array(sides).T
    middle = means.mean()
    return tuple((middle + np.array([-1, 1]) * np.hypot(*(means - [lows, highs]).T) / 2).tolist())


def share_interval(side: Side) -> tuple[float, float]:
    """The 95 % interval of the mean of values from 0 to 1, of one side: Wilson's (1927).

    As its number of trials counts that which has the variance seen between the groups; where all are right, or all
    wrong, the number of groups.
    """
    n = side.n
    if side.variance > 0:
        n = max(n, side.mean * (1 - side.mean) / side.variance)
    return wilson_interval(side.mean * n, n)


def _score_interval(side: Side) -> tuple[float, float]:
    """Tango's interval for pairs: the differences that the score test at 5 % doesn't reject.

    Gained and lost are as many groups as have the variance seen: with whole groups of one photo, the pairs that differ.
    """
    n, difference = side.n, side.mean
    differing = max(float((side.sums**2).sum() / (side.sizes**2).sum()), abs(difference))
    gained, lost = n * (differing + difference) / 2, n * (differing - difference) / 2

    def score(true: float) -> float:
        """Return how many standard errors the difference is above the `true` one, were it that."""
        b = (2 * n - gained + lost) * true - gained - lost
        root = np.sqrt(max(b**2 + 8 * n * lost * true * (1 - true), 0.0))  # 0 but for rounding, where all are lost
        share = (root - b) / (4 * n)  # lost, by the restricted estimate
        return float((gained - lost - n * true) / np.sqrt(max(n * (2 * share + true * (1 - true)), 1e-12)))

    low, high = -1 + 1e-9, 1 - 1e-9  # just inside, where the score exists
    return (
        low if score(low) <= Z else brentq(lambda true: score(true) - Z, low, min(difference, high)),
        high if score(high) >= -Z else brentq(lambda true: score(true) + Z, max(difference, low), high),
    )
