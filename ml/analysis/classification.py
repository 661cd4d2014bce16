"""How good a classifier is, from its out-of-fold predictions.

Two protocols come from the same predictions. *Balanced*: all photos of the rarer side and as many of the
other, drawn evenly over its classes, several times. *All*: every photo, where accuracy says little because
most are negatives. Draws are carried as weights (how probable it is that a photo is drawn), which makes every
balanced metric the plain weighted one, with the photos of one draw as its total weight.

Everywhere: `labels` bool[N], true for the animal; `probabilities` float[N] of the animal, in [0, 1], a photo
being called the animal from 0.5 on; `classes` str[N], the class folder of each photo; `weights` float[N], one
each if None.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from ml.errors import DataError

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

THRESHOLD = 0.5
DRAWS = 5
CALIBRATION_BINS = 15


def draw_evenly(candidates: IntArray, classes: StrArray, n: int, rng: np.random.Generator) -> IntArray:
    """Draw `n` of `candidates`, indices into `classes`, as evenly over their classes as they allow.

    Classes take turns, one random photo each, until `n` are drawn; a class that has run out is passed over.
    Who still has a turn in the last, incomplete round is random. Returns all candidates where `n` is more
    than there are.
    """
    shuffled = rng.permutation(candidates)
    turn = pd.Series(shuffled).groupby(np.asarray(classes)[shuffled]).cumcount()
    return shuffled[np.lexsort((rng.random(len(shuffled)), turn))[:n]]


def balanced_draws(
    labels: BoolArray, classes: StrArray, seed: int, draws: int = DRAWS
) -> list[npt.NDArray[np.integer]]:
    """Index sets of as many positives as negatives, int[2·min(positives, negatives)] each, sorted.

    The rarer side is always there in full; the other is drawn evenly over its classes, anew for each draw.
    """
    labels = _both_sides(labels)
    n = min(labels.sum(), (~labels).sum())
    rng = np.random.default_rng(seed)
    sides = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    return [np.sort(np.concatenate([draw_evenly(side, classes, n, rng) for side in sides])) for _ in range(draws)]


def draw_size(n_positives: float, n_negatives: float) -> int:
    """How many photos one balanced draw has: all of the rarer side, and as many of the other."""
    return 2 * int(min(n_positives, n_negatives))


def balanced_subset(candidates: IntArray, labels: BoolArray, classes: StrArray, seed: int) -> IntArray:
    """One balanced draw of the photos `candidates`, indices into `labels` and `classes`: what a fold trains on."""
    (chosen,) = balanced_draws(labels[candidates], classes[candidates], seed, draws=1)
    return candidates[chosen]


def draw_weights(draws: Sequence[IntArray], n_photos: int) -> FloatArray:
    """How often each photo was drawn, over the number of draws: float[n_photos]; they sum up to one draw."""
    return np.bincount(np.concatenate(draws), minlength=n_photos) / len(draws)


def draw_probabilities(labels: BoolArray, classes: StrArray) -> FloatArray:
    """How probable each photo is to be in a balanced draw: float[N], what `draw_weights` comes to with many draws.

    The rarer side is in every draw. On the other every class gets an equal share of the draw, as far as it has photos.

    Raises DataError where positives or negatives are missing.
    """
    labels = _both_sides(labels)
    probabilities = np.ones(len(labels))
    for side in (labels, ~labels):
        names, place, sizes = np.unique(np.asarray(classes)[side], return_inverse=True, return_counts=True)
        left, shares = min(labels.sum(), (~labels).sum()), np.zeros(len(names))
        while left > 1e-9:  # in turn, until a class runs out
            able = shares < sizes
            step = min(left / able.sum(), (sizes - shares)[able].min())
            shares[able] += step
            left -= step * able.sum()
        probabilities[side] = (shares / sizes)[place]
    return probabilities


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927): within [0, 1], and of use at 0 and n successes too.

    `successes` may be fractional, as a mean over draws is. Without any trial the interval is (0, 1).
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = min(max(successes / n, 0.0), 1.0)  # sums of weights may end a rounding error outside
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return float(min(max(centre - half, 0.0), p)), float(max(min(centre + half, 1.0), p))


def accuracy_standard_error(accuracy: float, n: float) -> float:
    """Standard error of an accuracy on `n` photos: half of Wilson's 68.3 % interval, so never 0."""
    low, high = wilson_interval(accuracy * n, n, confidence=2 * NormalDist().cdf(1) - 1)
    return (high - low) / 2


def brier_score(labels: BoolArray, probabilities: FloatArray, weights: FloatArray | None = None) -> float:
    """Mean squared distance of probability and truth (Brier 1950): 0 is perfect, "always 0.5" gets 0.25."""
    return float(np.average((probabilities - labels) ** 2, weights=weights))


def reliability_bins(
    labels: BoolArray,
    probabilities: FloatArray,
    weights: FloatArray | None = None,
    bins: int = CALIBRATION_BINS,
) -> pd.DataFrame:
    """What is promised and what is kept, in bins of equal width (Guo 2017, section 2); empty ones left out.

    Columns: `low`, `high` (the bin), `n` (photos, fractional with weights), `mean_probability`,
    `positive_rate`, and `rate_low`, `rate_high`, the rate's 95 % Wilson interval.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    places = _bin(probabilities, bins)
    rows = []
    for place in np.unique(places[weights > 0]):
        inside = (places == place) & (weights > 0)
        n = float(weights[inside].sum())
        rate = float(np.average(labels[inside], weights=weights[inside]))
        promised = float(np.average(probabilities[inside], weights=weights[inside]))
        rows.append((place / bins, (place + 1) / bins, n, promised, rate, *wilson_interval(rate * n, n)))
    columns = ["low", "high", "n", "mean_probability", "positive_rate", "rate_low", "rate_high"]
    return pd.DataFrame(rows, columns=columns)


def expected_calibration_error(
    labels: BoolArray,
    probabilities: FloatArray,
    weights: FloatArray | None = None,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Mean distance of promised and kept over the bins of equal width (Guo 2017, eq. 3).

    A bin (see `reliability_bins`) counts as much as it has photos. It is taken on the probability of the
    animal, not on the confidence in the class chosen.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    beyond = weights * (probabilities - labels)
    return float(np.abs(np.bincount(_bin(probabilities, bins), beyond)).sum() / weights.sum())


def calibration_error_by_chance(
    probabilities: FloatArray, weights: FloatArray, seed: int, bins: int = CALIBRATION_BINS, redraws: int = 200
) -> float:
    """What `expected_calibration_error` would be on average if the probabilities were exactly right.

    It is above 0, as photos are few. Truths are drawn anew from the probabilities (consistency resampling: Bröcker &
    Smith 2007, "Increasing the reliability of reliability diagrams").
    """
    random = np.random.default_rng(seed)
    truths = (random.random(len(probabilities)) < probabilities for _ in range(redraws))
    return float(np.mean([expected_calibration_error(truth, probabilities, weights, bins) for truth in truths]))


def _bin(probabilities: FloatArray, bins: int) -> IntArray:
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def confusion_matrix(
    labels: BoolArray, probabilities: FloatArray, weights: FloatArray | None = None
) -> npt.NDArray[np.float64]:
    """Photos by truth (rows) and answer (columns), both in the order other, animal: float[2, 2].

    With the weights of balanced draws: the mean over the draws.
    """
    cell = 2 * labels.astype(int) + _called(probabilities)
    return np.bincount(cell, weights=weights, minlength=4).astype(float).reshape(2, 2)


def class_errors(labels: BoolArray, probabilities: FloatArray, classes: StrArray) -> pd.DataFrame:
    """How often each class is told wrong, worst first.

    Columns: `class`, `n`, `errors`, `error_rate`, and its 95 % Wilson interval `error_low`, `error_high`.
    """
    wrong = pd.Series(_called(probabilities) != labels)
    table = wrong.groupby(np.asarray(classes)).agg(n="size", errors="sum").rename_axis("class").reset_index()
    table["error_rate"] = table.errors / table.n
    intervals = [wilson_interval(errors, n) for errors, n in zip(table.errors, table.n, strict=True)]
    table["error_low"], table["error_high"] = zip(*intervals, strict=True)
    return table.sort_values(["error_rate", "class"], ascending=[False, True], ignore_index=True)


def evaluate(
    labels: BoolArray,
    probabilities: FloatArray,
    classes: StrArray,
    folds: IntArray,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, float]:
    """The metrics of a classifier, by the names they have in MLflow.

    `cv_*` are on balanced draws, calibration included (on all photos any model that says "no" has a Brier
    score near 0), `cv_all_*` on all photos. The accuracy is that of the pooled predictions; its standard deviation
    (of a sample, ddof 1) is over the folds of one draw, then averaged over `draws`. The interval is Wilson's
    on the pooled predictions with the photos of one draw as n: as the draws share their positives, more draws don't
    make it narrower. ROC-AUC is of pooled predictions too.

    Raises DataError where positives or negatives are missing, or probabilities are not numbers in [0, 1].
    """
    labels = _both_sides(labels)
    probabilities = _probabilities(probabilities, len(labels))
    called = _called(probabilities)
    correct = called == labels
    chosen = balanced_draws(labels, classes, seed, draws)
    weights = draw_probabilities(labels, classes)

    by_fold = [pd.Series(correct[draw].astype(float)).groupby(np.asarray(folds)[draw]).mean() for draw in chosen]
    n = float(weights.sum())
    low, high = wilson_interval(float(weights @ correct), n)
    return {
        "cv_accuracy_mean": float(weights @ correct) / n,
        "cv_accuracy_std": float(np.mean([folds.std() if len(folds) > 1 else 0.0 for folds in by_fold])),
        "cv_accuracy_low": low,
        "cv_accuracy_high": high,
        "cv_roc_auc_mean": float(roc_auc_score(labels, probabilities, sample_weight=weights)),
        "cv_all_roc_auc": float(roc_auc_score(labels, probabilities)),
        "cv_all_average_precision": float(average_precision_score(labels, probabilities)),
        "cv_all_balanced_accuracy": float((correct[labels].mean() + correct[~labels].mean()) / 2),
        "cv_brier": brier_score(labels, probabilities, weights),
        "cv_ece": expected_calibration_error(labels, probabilities, weights),
        "cv_ece_by_chance": calibration_error_by_chance(probabilities, weights, seed),
        "n_photos": float(len(labels)),
        "n_positives": float(labels.sum()),
    }


def holdout_metrics(labels: BoolArray, probabilities: FloatArray) -> dict[str, float]:
    """The metrics on photos that never trained, by the names they have in MLflow: `test_*`, all of them counted.

    Raises DataError where positives or negatives are missing, or probabilities are not numbers in [0, 1].
    """
    labels = _both_sides(labels)
    probabilities = _probabilities(probabilities, len(labels))
    correct = _called(probabilities) == labels
    low, high = wilson_interval(float(correct.sum()), len(labels))
    return {
        "test_accuracy": float(correct.mean()),
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_balanced_accuracy": float((correct[labels].mean() + correct[~labels].mean()) / 2),
        "test_roc_auc": float(roc_auc_score(labels, probabilities)),
        "test_brier": brier_score(labels, probabilities),
        "test_n_photos": float(len(labels)),
    }


def _called(probabilities: FloatArray) -> BoolArray:
    return np.asarray(probabilities) >= THRESHOLD


def _both_sides(labels: BoolArray) -> BoolArray:
    labels = np.asarray(labels, dtype=bool)
    if labels.all() or not labels.any():
        raise DataError(
            "A classifier is judged on photos of the animal and of others. "
            f"Received: {labels.sum()} positives and {(~labels).sum()} negatives; add the missing ones."
        )
    return labels


def _probabilities(probabilities: FloatArray, n: int) -> FloatArray:
    probabilities = np.asarray(probabilities, dtype=float)
    if probabilities.shape != (n,) or not ((probabilities >= 0) & (probabilities <= 1)).all():
        outside = int((~((probabilities >= 0) & (probabilities <= 1))).sum())
        raise DataError(
            f"Expected {n} probabilities in [0, 1], one a photo. Received: shape {probabilities.shape}, "
            f"{outside} outside or not a number; look at the learning curves for a model that diverged."
        )
    return probabilities
