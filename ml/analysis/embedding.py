"""Maps of the photos: which look alike, and how far the animal stands apart."""

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ml.analysis.classification import BoolArray, FloatArray, IntArray, StrArray, balanced_draws, draw_evenly
from ml.errors import DataError

MAP_LIMIT = 3000
PCA_DIMENSIONS = 50


def map_sample(labels: BoolArray, classes: StrArray, seed: int, limit: int = MAP_LIMIT) -> IntArray:
    """Sorted indices of the photos that a map takes, at most `limit`: all of the animal, if they are no more than half
    of that, and others drawn evenly over their classes."""
    rng = np.random.default_rng(seed)
    animal = draw_evenly(np.flatnonzero(labels), classes, limit // 2, rng)
    others = draw_evenly(np.flatnonzero(~labels), classes, limit - len(animal), rng)
    return np.sort(np.concatenate([animal, others]))


def tsne(features: FloatArray, seed: int, perplexity: float = 30.0) -> npt.NDArray[np.float32]:
    """Lay the photos out on a plane so that neighbours stay neighbours: float[N, D] -> float32[N, 2].

    t-SNE (van der Maaten & Hinton 2008) with their preparation: 50 principal components, here of the
    standardised features. Distances between far islands, and the islands' sizes, mean nothing. Fewer than 90
    photos lower the perplexity to a third of their number. The same input and seed give the same map.

    Raises DataError for fewer than 4 photos.
    """
    if len(features) < 4:
        raise DataError(f"Expected at least 4 photos for a map. Received: features of shape {np.shape(features)}.")
    # One thread: t-SNE takes all cores whatever n_jobs says, and they wait for each other on a busy machine.
    with threadpool_limits(limits=1):
        standard = StandardScaler().fit_transform(np.asarray(features, dtype=np.float32))
        components = PCA(min(PCA_DIMENSIONS, *standard.shape), random_state=seed).fit_transform(standard)
        perplexity = min(perplexity, (len(features) - 1) / 3)
        points = TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(components)
    return np.asarray(points, dtype=np.float32)


def separability(
    points: FloatArray,
    labels: BoolArray,
    classes: StrArray,
    groups: IntArray,
    seed: int,
    neighbours: int = 5,
) -> float:
    """Nearest-neighbour accuracy: how often the nearest other photos, by majority, tell a photo's label.

    Takes features or a map, float[N, D], and standardises each column. Leave-one-out on each of the balanced
    draws (`classification.balanced_draws`), a photo's near-duplicates left out with it, averaged over the
    draws. 1 is an animal that stands apart, 0.5 one that is scattered among the others. It is no estimate of
    what a classifier can reach. A map may score above its features: all photos took part in laying it out,
    not those of a draw alone.
    """
    standard = StandardScaler().fit_transform(np.asarray(points, dtype=np.float32))
    accuracies = []
    for draw in balanced_draws(labels, classes, seed):
        distances = pairwise_distances(standard[draw])
        distances[groups[draw, None] == groups[None, draw]] = np.inf
        nearest = np.argsort(distances, axis=1)[:, :neighbours]
        known = np.isfinite(np.take_along_axis(distances, nearest, axis=1))
        votes = (np.where(labels[draw][nearest], 1, -1) * known).sum(axis=1)
        # A tie, possible where a group leaves few others, is half right.
        accuracies.append(np.where(votes == 0, 0.5, (votes > 0) == labels[draw]).mean())
    return float(np.mean(accuracies))
