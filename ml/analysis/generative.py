"""How good generated pictures are beside real photos, from the features that a frozen network gives both.

Everywhere: `real`, `generated`, `training`, `held_out` float[N, D], a row a picture, of the same network. What is said
of pictures by the network that judged them while they were trained flatters them: use an independent one as well.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from ml.errors import DataError

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]

NEIGHBOURS = 3
CONFIDENCE = 0.95


class KernelDistance(NamedTuple):
    """An estimate and its 95 % interval. It is unbiased, so where there is no difference it may be below 0."""

    value: float
    low: float
    high: float


class PrecisionRecall(NamedTuple):
    """Shares, from 0 to 1.

    Attributes:
        precision: of the generated pictures, those that lie among the real photos.
        recall: of the real photos, those that lie among the generated pictures.
    """

    precision: float
    recall: float


class Nearest(NamedTuple):
    """The nearest training photo of each picture.

    Attributes:
        distances: Euclidean, float64 [N].
        indices: which training photo it is, int [N].
    """

    distances: FloatArray
    indices: IntArray


def kernel_distance(real: FloatArray, generated: FloatArray) -> KernelDistance:
    """KID: the unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³ (Bińkowski 2018, section 3).

    The interval is the jackknife's of a two-sample U-statistic (Arvesen 1969): each photo and each picture is left out
    once. Unlike subsets or a bootstrap it needs no draw, and no pair of a photo with itself creeps in.

    Raises:
        DataError: there are fewer than three of either.
    """
    m, n = len(_enough(real, "real photos", 3)), len(_enough(generated, "generated pictures", 3))
    within_real, within_generated, across = _kernel(real, real), _kernel(generated, generated), _kernel(real, generated)
    np.fill_diagonal(within_real, 0)
    np.fill_diagonal(within_generated, 0)
    sums = within_real.sum(axis=1), within_generated.sum(axis=1)
    totals = sums[0].sum(), sums[1].sum(), across.sum()

    value = _discrepancy(*totals, m, n)
    without_photo = _discrepancy(totals[0] - 2 * sums[0], totals[1], totals[2] - across.sum(axis=1), m - 1, n)
    without_picture = _discrepancy(totals[0], totals[1] - 2 * sums[1], totals[2] - across.sum(axis=0), m, n - 1)
    variance = (m - 1) * without_photo.var() + (n - 1) * without_picture.var()
    half = stats.t.ppf((1 + CONFIDENCE) / 2, min(m, n) - 1) * np.sqrt(variance)
    return KernelDistance(float(value), float(value - half), float(value + half))


def precision_recall(real: FloatArray, generated: FloatArray, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Whether pictures lie among photos and photos among pictures (Kynkäänniemi 2019, section 2).

    To lie among them is to be no farther from one of them than its own `neighbours`-th neighbour of the same kind.
    Both shares grow with the number of what is lain among: compare only what was judged with as many.

    Raises:
        DataError: there are no more than `neighbours` of either.
    """
    _enough(real, "real photos", neighbours + 1)
    _enough(generated, "generated pictures", neighbours + 1)
    across = _distances(real, generated)
    among_real = across <= _radii(real, neighbours)[:, None]
    among_generated = across <= _radii(generated, neighbours)
    return PrecisionRecall(float(among_real.any(axis=0).mean()), float(among_generated.any(axis=1).mean()))


def diversity(real: FloatArray, generated: FloatArray) -> float:
    """The mean distance between two generated pictures over that between two real photos: 1 is as diverse as real.

    Raises:
        DataError: there are fewer than two of either, or the photos are all alike.
    """
    spread = _mean_distance(_enough(real, "real photos", 2))
    if spread == 0:
        raise DataError("The real photos are all alike, so nothing can be as diverse as they are. Check the crops.")
    return _mean_distance(_enough(generated, "generated pictures", 2)) / spread


def nearest(pictures: FloatArray, training: FloatArray) -> Nearest:
    """Which training photo each picture is nearest to, and how near. Give `training` the mirrored ones too if the
    generator was shown those.

    Raises:
        DataError: there is no training photo.
    """
    distances = _distances(pictures, _enough(training, "training photos", 1))
    indices = distances.argmin(axis=1)
    return Nearest(distances[np.arange(len(pictures)), indices], indices)


def copy_rate(generated: FloatArray, held_out: FloatArray) -> float:
    """The share of pictures that are nearer to a training photo than every photo that was not trained on.

    Both arguments are distances to the nearest training photo, float[N]. New photos from the same source would be at
    1 / (1 + number of held-out photos) in expectation: what is well above that is copying.

    Raises:
        DataError: there are none of either.
    """
    return float((_enough(generated, "generated pictures", 1) < _enough(held_out, "held-out photos", 1).min()).mean())


def copy_rate_by_chance(generated: int, held_out: int) -> tuple[float, float]:
    """What `copy_rate` would be of as many new photos instead of pictures: its mean, and its 95th percentile.

    The rank of the nearest held-out photo among photos like it is uniform, which makes the number beta-binomial.
    """
    chance = stats.betabinom(generated, 1, held_out)
    return float(chance.mean() / generated), float(chance.ppf(0.95) / generated)


def nearer_than_new(generated: FloatArray, held_out: FloatArray) -> float:
    """The chance that a picture is nearer to the training photos than a photo that was not trained on.

    Arguments as for `copy_rate`. 0.5 is what new photos have, 1 is a generator that only remembers: the statistic of
    the data-copying test of Meehan (2020, section 3.1), as a share.

    Raises:
        DataError: there are none of either.
    """
    generated, held_out = _enough(generated, "generated pictures", 1), _enough(held_out, "held-out photos", 1)
    ranks = stats.rankdata(np.concatenate([generated, held_out]))[len(generated) :].sum()
    lowest = len(held_out) * (len(held_out) + 1) / 2
    return float((ranks - lowest) / (len(generated) * len(held_out)))


def _enough(rows: FloatArray, what: str, fewest: int) -> FloatArray:
    if len(rows) < fewest:
        raise DataError(f"Expected at least {fewest} {what}. Received: {len(rows)}. Add photos, or generate more.")
    return np.asarray(rows, np.float64)


def _kernel(x: FloatArray, y: FloatArray) -> FloatArray:
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def _discrepancy(
    within_real: FloatArray, within_generated: FloatArray, across: FloatArray, m: int, n: int
) -> FloatArray:
    """The squared discrepancy, from the kernel's sums over pairs of different pictures within both sides and across."""
    return within_real / (m * (m - 1)) + within_generated / (n * (n - 1)) - 2 * across / (m * n)


def _distances(x: FloatArray, y: FloatArray) -> FloatArray:
    """Euclidean distances float64 [len(x), len(y)]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0))


def _radii(rows: FloatArray, neighbours: int) -> FloatArray:
    """The distance of each row to its `neighbours`-th nearest other row."""
    within = _distances(rows, rows)
    np.fill_diagonal(within, 0)
    return np.sort(within, axis=1)[:, neighbours]


def _mean_distance(rows: FloatArray) -> float:
    within = _distances(rows, rows)
    np.fill_diagonal(within, 0)
    return float(within.sum() / (len(rows) * (len(rows) - 1)))
