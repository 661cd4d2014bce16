"""How far new photos are from the training photos, in the features of a frozen network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ml.analysis.classification import wilson_interval

Floats = NDArray[np.floating]

FEWEST = 10
"""Photos of each kind below which nothing is measured."""
FAMILIAR = 0.95
"""Share of the training photos that count as familiar to the others."""


@dataclass(frozen=True)
class Drift:
    """What two sets of photos have to do with each other.

    Attributes:
        unfamiliar: share of the new photos that are farther from the nearest training photo than 95 % of the training
            photos are from theirs; 0.05 is to be expected. Unlike the distance, it doesn't mind which animals are more
            frequent than before. `unfamiliar_low` and `unfamiliar_high` are its 95 % interval.
        distance: 0 (no difference) to 1, which only points without any spread reach: photos that have nothing in
            common with the training photos are often at 0.3 to 0.5.
        p_value: how often a difference as large comes about among as many photos of one kind, taken one by one.
        familiar: that distance, beyond which a photo is like none that was trained on.
        nearest_new: distance of each new photo to the nearest training photo, [N].
        nearest_training: distance of each training photo to the nearest other, [M].
    """

    unfamiliar: float
    unfamiliar_low: float
    unfamiliar_high: float
    distance: float
    p_value: float
    familiar: float
    nearest_new: Floats
    nearest_training: Floats

    def is_beyond(self, distance: float, level: float) -> bool:
        """Return whether it is a drift: as far as `distance`, at a p-value of at most `level`, and unfamiliar.

        A folder of a few scenes is always far by the p-value, which takes photos one by one; but it is familiar.
        """
        return self.unfamiliar_low > 1 - FAMILIAR and self.distance >= distance and self.p_value <= level


@threadpool_limits.wrap(limits=1, user_api="blas")
def measure(new: Floats, training: Floats, seed: int, permutations: int = 999) -> Drift | None:
    """Return how far `new` [N, D] is from `training` [M, D]; `None` for fewer than 10 of either.

    The distance is the energy distance (Székely & Rizzo 2013, "Energy statistics", J. Stat. Plan. Inference 143): the
    root of the energy, unbiased, as a share of twice the mean distance between the two sets (their coefficient of
    inhomogeneity). It needs no kernel width, and sees any difference of the distributions. The p-value is that of its
    permutation test (never 0: Phipson & Smyth 2010), so among photos drawn alike it is at most p in a share p of the
    draws. Near-duplicates are no separate draws: leave one of each in.
    """
    if min(len(new), len(training)) < FEWEST:
        return None
    both = np.concatenate([new, training])
    is_new = np.arange(len(both)) < len(new)

    # In units that don't depend on who is new, or shuffling would not tell what comes about by chance.
    distances = _distances(both, both.std(axis=0))
    random = np.random.default_rng(seed)
    labels = np.stack([is_new, *(random.permutation(is_new) for _ in range(permutations))])
    observed, *shuffled = _energy(distances, labels)

    distances = _distances(both, training.std(axis=0))
    np.fill_diagonal(distances, np.inf)
    across = distances[is_new][:, ~is_new]
    nearest_new = across.min(axis=1)
    nearest_training = distances[~is_new][:, ~is_new].min(axis=1)
    familiar = float(np.quantile(nearest_training, FAMILIAR))
    unfamiliar = float((nearest_new > familiar).mean())
    # Photos of one scene are most like the same training photo, and are familiar or not together.
    scenes = len(np.unique(across.argmin(axis=1)))
    low, high = wilson_interval(unfamiliar * scenes, scenes)
    return Drift(
        unfamiliar=unfamiliar,
        unfamiliar_low=low,
        unfamiliar_high=high,
        distance=float(np.sqrt(max(observed, 0.0))),
        p_value=float((1 + sum(value >= observed for value in shuffled)) / (1 + permutations)),
        familiar=familiar,
        nearest_new=nearest_new,
        nearest_training=nearest_training,
    )


def _distances(rows: Floats, units: Floats) -> Floats:
    """Euclidean distances of all pairs, in units [D] of the features: [K, D] -> float32 [K, K]."""
    rows = (rows - rows.mean(axis=0, dtype=np.float64)) / np.maximum(units, 1e-3 * units.mean() + 1e-12)
    squares = (rows**2).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)).astype(np.float32)


def _energy(distances: Floats, labels: NDArray[np.bool_]) -> Floats:
    """The coefficient for each way to call the rows new or not: bool [P, K] -> [P]."""
    chosen = labels.astype(np.float32)
    n = chosen[0].sum(dtype=int)
    m = chosen.shape[1] - n
    sums = chosen @ distances
    inside = (sums * chosen).sum(axis=1, dtype=np.float64)
    across = sums.sum(axis=1, dtype=np.float64) - inside
    outside = distances.sum(dtype=np.float64) - inside - 2 * across
    between = 2 * across / (n * m)
    return (between - inside / (n * (n - 1)) - outside / (m * (m - 1))) / between
