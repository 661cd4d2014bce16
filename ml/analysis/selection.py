"""Choosing among candidates without fooling oneself, and promoting only what is shown to be no worse.

Everywhere: `labels` bool[N]; `correct` bool[N], whether a candidate's out-of-fold answer was right; `groups`
int[N], the near-duplicate group of each photo. A bootstrap draws groups, not photos, as near-duplicates stand
or fall together; groups with a positive and groups without are drawn apart, so that no resample lacks either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.analysis.classification import draw_size, wilson_interval
from ml.errors import DataError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

NOT_WORSE_MARGIN = 0.01  # of balanced accuracy: one photo in a hundred
INTERVAL = (0.025, 0.975)


def one_standard_error(scores: Sequence[float], standard_errors: Sequence[float], complexities: Sequence[float]) -> int:
    """Index of the simplest candidate within one standard error of the best (Breiman 1984, section 3.4.3).

    The standard error is the best one's. Of equally simple candidates the better is taken, then the first.
    """
    return int(_simplest_good(np.asarray(scores), np.asarray(standard_errors), np.asarray(complexities)))


def _simplest_good(scores: FloatArray, standard_errors: FloatArray, complexities: FloatArray) -> IntArray:
    """The rule of `one_standard_error` along the last axis of `scores` [..., C]; the others are [C]."""
    bar = scores.max(axis=-1) - standard_errors[scores.argmax(axis=-1)]
    cost = np.where(scores >= bar[..., None], complexities, np.inf)
    simplest = np.where(cost == cost.min(axis=-1, keepdims=True), scores, -np.inf)
    return np.asarray(simplest.argmax(axis=-1))


@dataclass(frozen=True)
class SelectedAccuracy:
    """Balanced accuracy to expect of the chosen candidate, corrected for the choice; its 95 % interval."""

    accuracy: float
    low: float
    high: float


def selected_accuracy(
    correct: Mapping[str, BoolArray],
    labels: BoolArray,
    groups: IntArray,
    seed: int,
    standard_errors: Mapping[str, float] | None = None,
    complexities: Mapping[str, float] | None = None,
    resamples: int = 1000,
) -> SelectedAccuracy:
    """What the winner of many is worth: bootstrap bias-corrected CV (Tsamardinos 2018, algorithm 3).

    The best score of many is partly luck; so each resample chooses on the photos drawn, and scores its
    choice, by balanced accuracy, on those not drawn. It chooses as `one_standard_error` does with the
    standard errors and complexities given, or simply the best without them. The interval is that of the
    resamples' scores; it is rather too wide, since each scores on about a third of the photos. Of answers that are
    all right no resample has another score: so it is at least Wilson's, on the photos of a balanced draw.

    Raises DataError where the photos of one label are all in one group, so that none can be left out.
    """
    labels = np.asarray(labels, dtype=bool)
    matrix = np.column_stack(list(correct.values())).astype(np.float32)
    drawn = _photo_counts(labels, groups, resamples, np.random.default_rng(seed))

    chosen = _simplest_good(
        _balanced_accuracy(drawn, matrix, labels),
        np.array([standard_errors[name] if standard_errors else 0.0 for name in correct]),
        np.array([complexities[name] if complexities else 0.0 for name in correct]),
    )
    left_out = _balanced_accuracy((drawn == 0).astype(np.float32), matrix, labels)
    scores = left_out[np.arange(resamples), chosen]
    scores = scores[np.isfinite(scores)]  # of few photos, a resample may leave out none of one label
    if not len(scores):
        raise DataError(
            "Expected at least two near-duplicate groups of positives and two of negatives, to correct for "
            f"the choice among candidates. Received: {labels.sum()} positives and {(~labels).sum()} "
            f"negatives in {len(np.unique(groups))} groups; add photos."
        )
    accuracy, n = float(scores.mean()), draw_size(labels.sum(), (~labels).sum())
    lows, highs = zip(np.quantile(scores, INTERVAL), wilson_interval(accuracy * n, n), strict=True)
    return SelectedAccuracy(accuracy, float(min(lows)), float(max(highs)))


def _photo_counts(
    labels: BoolArray, groups: IntArray, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """How often each photo is in each resample: float32[resamples, N]."""
    group, positive = _numbered(labels, groups)
    counts = np.zeros((resamples, len(positive)), dtype=np.float32)
    for stratum in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        drawn = rng.choice(stratum, size=(resamples, len(stratum)))
        np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts[:, group]


def _numbered(labels: BoolArray, groups: IntArray) -> tuple[IntArray, BoolArray]:
    """The group of each photo, numbered from 0, int[N], and whether a group holds a positive, bool[G]."""
    if labels.all() or not labels.any():
        raise DataError(
            "Expected photos of the animal and of others, to compare candidates on. "
            f"Received: {labels.sum()} positives and {(~labels).sum()} negatives; add the missing ones."
        )
    group = np.unique(groups, return_inverse=True)[1]
    return group, np.bincount(group, weights=labels) > 0


def _balanced_accuracy(weights: FloatArray, matrix: FloatArray, labels: BoolArray) -> FloatArray:
    """Weights [R, N], correctness [N, C] -> mean of the sides' accuracies [R, C]; NaN for an empty side."""
    with np.errstate(invalid="ignore"):
        positives, negatives = (
            weights[:, side] @ matrix[side] / weights[:, side].sum(axis=1, keepdims=True) for side in (labels, ~labels)
        )
    return np.asarray((positives + negatives) / 2)


@dataclass(frozen=True, eq=False)
class PairedComparison:
    """B against A on the same photos, by balanced accuracy.

    Attributes:
        difference: B minus A; `low` and `high` are its 95 % interval.
        probability_better: share of the resamples where B is ahead, a tie counting half.
        n: photos compared.
        flips_gained: indices of the photos that only B gets right.
        flips_lost: indices of the photos that only A gets right.
    """

    difference: float
    low: float
    high: float
    probability_better: float
    n: int
    flips_gained: IntArray
    flips_lost: IntArray


def paired_bootstrap(
    labels: BoolArray,
    correct_a: BoolArray,
    correct_b: BoolArray,
    groups: IntArray,
    seed: int,
    resamples: int = 10_000,
) -> PairedComparison:
    """Compare two classifiers photo by photo: percentile bootstrap (Efron & Tibshirani 1993, chapter 13).

    A group matters only by what it adds to four sums, and most groups add the same. So the numbers of groups
    of each kind are drawn, from the multinomial distribution: the same as drawing groups, but much faster.
    """
    labels = np.asarray(labels, dtype=bool)
    gain = np.asarray(correct_b, dtype=int) - np.asarray(correct_a, dtype=int)
    group, positive = _numbered(labels, groups)
    per_photo = (gain * labels, labels, gain * ~labels, ~labels)
    sums = np.column_stack([np.bincount(group, weights=column) for column in per_photo])

    rng = np.random.default_rng(seed)
    totals = np.zeros((resamples, 4))
    for stratum in filter(len, (sums[positive], sums[~positive])):
        kinds, first, counts = np.unique(stratum, axis=0, return_index=True, return_counts=True)
        order = np.argsort(first)  # an order that A and B don't change: B against A is the exact opposite
        totals += rng.multinomial(len(stratum), counts[order] / len(stratum), size=resamples) @ kinds[order]
    with np.errstate(invalid="ignore"):
        differences = (totals[:, 0] / totals[:, 1] + totals[:, 2] / totals[:, 3]) / 2
    differences = differences[np.isfinite(differences)]

    low, high = np.quantile(differences, INTERVAL)
    return PairedComparison(
        difference=float((gain[labels].mean() + gain[~labels].mean()) / 2),
        low=float(low),
        high=float(high),
        probability_better=float((differences > 0).mean() + (differences == 0).mean() / 2),
        n=len(labels),
        flips_gained=np.flatnonzero(gain > 0),
        flips_lost=np.flatnonzero(gain < 0),
    )


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is to become champion, and why, in words with the numbers."""

    promote: bool
    reason: str


def decide(
    comparison: PairedComparison | None,
    complexity: float,
    champion_complexity: float,
    failed_checks: Sequence[str] = (),
    margin: float = NOT_WORSE_MARGIN,
) -> Decision:
    """Promote what is better, or not worse and simpler, and failed no guard check. A tie keeps the champion.

    *Better*: the whole 95 % interval lies above 0. *Not worse*: none of it lies below minus `margin`.

    Args:
        comparison: of champion (A) and challenger (B); None where there is no champion yet.
        complexity: of the challenger, on any scale that grows with the model.
        champion_complexity: on the same scale; of no effect without a champion.
        failed_checks: names of the guard checks that the challenger failed.
    """
    if failed_checks:
        return Decision(False, f"it fails the guard checks {', '.join(failed_checks)}.")
    if comparison is None:
        return Decision(True, "there is no champion yet, and it passes the guard checks.")

    numbers = _in_words(comparison)
    sizes = f"complexity {complexity:,.10g} against {champion_complexity:,.10g}"
    not_worse = comparison.low >= -margin
    if comparison.low > 0:
        return Decision(True, f"better than the champion ({numbers}).")
    if not_worse and complexity < champion_complexity:
        return Decision(True, f"not worse than the champion and simpler ({numbers}; {sizes}).")
    if comparison.high < 0:
        return Decision(False, f"worse than the champion ({numbers}).")
    if not_worse:
        return Decision(False, f"not worse than the champion, nor simpler ({numbers}; {sizes}).")
    worse_by = f"may be worse by more than {100 * margin:.1f} points"
    return Decision(False, f"it isn't shown to be better, and {worse_by} ({numbers}).")


def _in_words(comparison: PairedComparison) -> str:
    difference, low, high = (100 * x for x in (comparison.difference, comparison.low, comparison.high))
    return (
        f"{difference:+.1f} points of balanced accuracy, 95 % interval {low:+.1f} to {high:+.1f}, on "
        f"{comparison.n:,} photos: {len(comparison.flips_gained)} newly right, "
        f"{len(comparison.flips_lost)} newly wrong"
    )
