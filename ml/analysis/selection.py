"""Choosing among candidates without fooling oneself.

A candidate counts by its *credit* for each photo, float[N] from 0 to 1: whether its out-of-fold answer is right; and
where models that never saw the photo's class have judged it too, the mean of both. So with unseen classes measured the
score of a candidate is half its sensitivity, a quarter its specificity, and a quarter its specificity for classes that
it never saw. Only like is compared with like: see `Answers.credits`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.analysis.intervals import Photos, accuracy, accuracy_interval, standard_error
from ml.errors import DataError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

SIMPLER = 0.9
"""What of a model's multiply-adds another may need at most to be simpler."""
CHUNK = 50


@dataclass(frozen=True, eq=False)
class Answers:
    """What candidates say of the same photos.

    Attributes:
        photos: N of them.
        correct: by candidate whether its out-of-fold answer is right, bool[N].
        unseen: by candidate whether models that never saw the photo's class are right, float[N], NaN where that isn't
            measured.
    """

    photos: Photos
    correct: Mapping[str, BoolArray]
    unseen: Mapping[str, FloatArray]

    def credits(self, names: Sequence[str]) -> dict[str, FloatArray]:
        """Return what each photo counts for each of the candidates `names`.

        Unseen classes count on the photos where they are measured for all of them, so nobody gains or loses by what
        another one lacks.
        """
        measured = np.all([~np.isnan(self.unseen[name]) for name in names], axis=0)
        return {
            name: np.where(measured, (self.correct[name] + self.unseen[name]) / 2, self.correct[name].astype(float))
            for name in names
        }

    def eligible(self) -> list[str]:
        """Return the candidates to choose among.

        If some have no unseen classes measured, those that have are enough, unless one of the others is ahead of the
        best of them by more than a standard error out of fold. Then all are eligible, and unseen classes don't count.
        """
        names = list(self.correct)
        measured = [name for name in names if not np.isnan(self.unseen[name]).all()]
        if not 0 < len(measured) < len(names):
            return names
        best = choose(self.credits(measured), self.photos, dict.fromkeys(measured, 1.0))
        gains = [self.correct[name].astype(float) - self.correct[best] for name in names if name not in measured]
        ahead = any(accuracy(gain, self.photos) > standard_error(gain, self.photos) for gain in gains)
        return names if ahead else measured


def choose(credits: Mapping[str, FloatArray], photos: Photos, complexities: Mapping[str, float]) -> str:
    """Return the simplest candidate within one standard error of the best (Breiman 1984, section 3.4.3).

    The standard error is that of the difference to the best one on the same photos. Candidates of which none is 10 %
    simpler than another count as equally simple: of those the best is taken, then the first.
    """
    scores = np.array([accuracy(credit, photos) for credit in credits.values()])
    costs = np.array([complexities[name] for name in credits])
    return list(credits)[int(_simplest_good(scores, _paired_errors(credits, photos), costs))]


def _paired_errors(credits: Mapping[str, FloatArray], photos: Photos) -> FloatArray:
    """The standard errors of all differences, float[C, C]."""
    return np.array([[standard_error(a - b, photos) for b in credits.values()] for a in credits.values()])


def _simplest_good(scores: FloatArray, errors: FloatArray, costs: FloatArray) -> IntArray:
    """The rule of `choose` along the last axis of `scores` [..., C]; `errors` [C, C], `costs` [C]."""
    good = scores >= scores.max(axis=-1, keepdims=True) - errors[scores.argmax(axis=-1)] - 1e-12
    cheapest = np.where(good, costs, np.inf).min(axis=-1, keepdims=True)
    simplest = good & ((costs == cheapest) | (costs * SIMPLER < cheapest))
    return np.asarray(np.where(simplest, scores, -np.inf).argmax(axis=-1))


@dataclass(frozen=True)
class SelectedAccuracy:
    """The accuracy to expect of the chosen candidate, corrected for the choice; its 95 % interval."""

    accuracy: float
    low: float
    high: float


def selected_accuracy(
    answers: Answers,
    names: Sequence[str],
    complexities: Mapping[str, float],
    seed: int,
    resamples: int = 1000,
) -> SelectedAccuracy:
    """What the one chosen of `names` is worth: bootstrap bias-corrected CV (Tsamardinos 2018, algorithm 3).

    The best score of many is partly luck; so each resample, of groups, chooses on the photos drawn, as `choose` does,
    and finds the accuracy of its choice on those not drawn. Their mean is what is to be expected, though never more
    than the chosen one's own accuracy: a correction takes luck away. The interval is that of the chosen one's accuracy
    (`accuracy_interval`), moved by the correction: that of the resamples would be too wide, as each scores a third of
    the photos.

    Raises:
        DataError: the photos of one label are all in one group, so none can be left out.
    """
    photos, credits = answers.photos, answers.credits(names)
    chosen = answers.correct[choose(credits, photos, complexities)].astype(float)
    errors, costs = _paired_errors(credits, photos), np.array([complexities[name] for name in names])
    credit = np.column_stack(list(credits.values())).astype(np.float32)
    correct = np.column_stack([answers.correct[name] for name in names]).astype(np.float32)

    random, scores = np.random.default_rng(seed), []
    for start in range(0, resamples, CHUNK):
        drawn = _photo_counts(photos, min(CHUNK, resamples - start), random)
        picks = _simplest_good(_accuracies(drawn, credit, photos), errors, costs)
        left_out = _accuracies((drawn == 0).astype(np.float32), correct, photos)
        scores.append(left_out[np.arange(len(picks)), picks])
    found = np.concatenate(scores)
    found = found[np.isfinite(found)]  # of few photos, a resample may leave out none of one label
    if not len(found):
        raise DataError(
            "Expected at least two near-duplicate groups of positives and two of negatives, to correct for "
            f"the choice among candidates. Received: {photos.labels.sum()} positives and {(~photos.labels).sum()} "
            f"negatives in {len(np.unique(photos.groups))} groups; add photos."
        )
    own = accuracy(chosen, photos)
    luck = max(own - float(found.mean()), 0.0)
    low, high = accuracy_interval(chosen, photos)
    return SelectedAccuracy(own - luck, max(low - luck, 0.0), high - luck)


def _photo_counts(photos: Photos, resamples: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """How often each photo is in each resample, float32[resamples, N]: groups with the animal, and those without."""
    positive = np.bincount(photos.groups, weights=photos.labels) > 0
    counts = np.zeros((resamples, len(positive)), dtype=np.float32)
    for stratum in filter(len, (np.flatnonzero(positive), np.flatnonzero(~positive))):
        drawn = random.choice(stratum, size=(resamples, len(stratum)))
        np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts[:, photos.groups]


def _accuracies(counts: FloatArray, matrix: FloatArray, photos: Photos) -> FloatArray:
    """Counts [R, N], values [N, C] -> the accuracies [R, C]; NaN where a side is empty."""
    weights = counts * photos.weights.astype(np.float32)
    with np.errstate(invalid="ignore"):
        sides = [
            weights[:, side] @ matrix[side] / weights[:, side].sum(axis=1, keepdims=True)
            for side in (photos.labels, ~photos.labels)
        ]
    return np.asarray(sum(sides) / 2)
