"""The meeting of a challenger with the champion: promoted is only what is shown to be no worse."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from ml.analysis.intervals import accuracy, difference_interval, standard_error, undecided_below
from ml.analysis.selection import SIMPLER, Answers

IntArray = npt.NDArray[np.integer]

NOT_WORSE_MARGIN = 0.01  # of accuracy: one photo in a hundred


@dataclass(frozen=True, eq=False)
class PairedComparison:
    """B against A on the same photos.

    Attributes:
        difference: of accuracy, with unseen classes where both have them measured, B minus A; `low` and `high` are its
            95 % interval.
        standard_error: of the difference.
        n: photos compared; `n_positives` are the animal's.
        enough: how many of the animal it takes to say of two that answer alike that none is worse.
        flips_gained: indices of the photos that only B gets right, out of fold.
        flips_lost: indices of the photos that only A gets right.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    n: int
    n_positives: int
    enough: int
    flips_gained: IntArray
    flips_lost: IntArray


def compare(answers: Answers, a: str, b: str, margin: float = NOT_WORSE_MARGIN) -> PairedComparison:
    """Compare two classifiers photo by photo: see `difference_interval`."""
    photos, credits = answers.photos, answers.credits([a, b])
    gains = credits[b] - credits[a]
    low, high = difference_interval(gains, photos)
    mine, others = photos.sides(gains)
    positives = int(photos.labels.sum())
    flips = answers.correct[b].astype(int) - answers.correct[a]
    return PairedComparison(
        difference=accuracy(gains, photos),
        low=low,
        high=high,
        standard_error=standard_error(gains, photos),
        n=len(gains),
        n_positives=positives,
        enough=math.ceil(undecided_below(mine.n, others.n, margin) * positives / mine.n - 1e-9),
        flips_gained=np.flatnonzero(flips > 0),
        flips_lost=np.flatnonzero(flips < 0),
    )


def luck_of_many(models: int, comparison: PairedComparison) -> float:
    """How much better than it is the best of so many equally good models looks, on average, on the same photos.

    The expected maximum of as many normal deviates (Blom 1958), of the part in which two models vary.
    """
    return float(norm.ppf((models - 0.375) / (models + 0.25))) * comparison.standard_error / math.sqrt(2)


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is to become champion, and why, in words with the numbers."""

    promote: bool
    reason: str


def decide(
    comparison: PairedComparison,
    complexity: float,
    champion_complexity: float,
    best: PairedComparison | None = None,
    margin: float = NOT_WORSE_MARGIN,
) -> Decision:
    """Promote what is better, or not worse and simpler. A tie keeps the champion.

    *Better*: the whole 95 % interval lies above 0. *Not worse*: none of it lies below minus `margin`. *Simpler*: by
    10 % at least. What is simpler must not be worse than the best champion so far either: a little is lost unseen in
    every such step.

    Args:
        comparison: of champion (A) and challenger (B).
        complexity: of the challenger, on any scale that grows with the model.
        champion_complexity: on the same scale.
        best: of the best earlier champion (A) and the challenger (B); None where there is none to compare with.
        margin: of accuracy.
    """
    numbers, points = in_words(comparison), f"{100 * margin:.1f} points"
    sizes = f"complexity {complexity:,.10g} against {champion_complexity:,.10g}"
    not_worse, simpler = comparison.low >= -margin, complexity <= SIMPLER * champion_complexity
    if comparison.low > 0:
        return Decision(True, f"better than the champion ({numbers}).")
    if not_worse and simpler and best and best.low < -margin:
        return Decision(
            False,
            f"not worse than the champion and simpler ({numbers}; {sizes}), but it may be worse than the best champion "
            f"so far by more than {points} ({in_words(best)}).",
        )
    if not_worse and simpler:
        return Decision(True, f"not worse than the champion and simpler ({numbers}; {sizes}).")
    if comparison.high < 0:
        return Decision(False, f"worse than the champion ({numbers}).")
    if not_worse:
        return Decision(False, f"not worse than the champion, nor at least 10 % simpler ({numbers}; {sizes}).")
    if comparison.n_positives < comparison.enough:
        return Decision(
            False,
            f"too few photos to tell: with {comparison.n_positives:,} of the animal, even a model with the same "
            f"answers could be more than {points} worse; at least {comparison.enough:,} are needed ({numbers}).",
        )
    return Decision(False, f"it isn't shown to be better, and may be worse by more than {points} ({numbers}).")


def in_words(comparison: PairedComparison) -> str:
    """Return the difference and its interval, on how many photos, and how many flip."""
    difference, low, high = (100 * x for x in (comparison.difference, comparison.low, comparison.high))
    return (
        f"{difference:+.1f} points of balanced accuracy, 95 % interval {low:+.1f} to {high:+.1f}, on "
        f"{comparison.n:,} photos: {len(comparison.flips_gained)} newly right, "
        f"{len(comparison.flips_lost)} newly wrong"
    )
