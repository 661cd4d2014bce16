import numpy as np
import pytest

from ml.analysis.embedding import map_sample, separability, tsne
from ml.errors import DataError


def blobs(distance: float, n: int = 40, classes: int = 4, dimensions: int = 16, seed: int = 0):
    """A class in each blob, the first being the animal; their middles are `distance` deviations apart."""
    rng = np.random.default_rng(seed)
    middles = distance * rng.normal(size=(classes, dimensions))
    features = np.repeat(middles, n, axis=0) + rng.normal(size=(n * classes, dimensions))
    names = np.repeat(["fox", *(f"other {i}" for i in range(1, classes))], n)
    return features.astype(np.float32), names == "fox", names, np.arange(n * classes)


def test_separability_of_blobs_is_one_and_of_shuffled_labels_a_coin_flip():
    features, labels, classes, groups = blobs(distance=5)
    assert separability(features, labels, classes, groups, seed=0) > 0.98
    scores = []
    for seed in range(8):
        shuffled = np.random.default_rng(seed).permutation(len(labels))
        scores.append(separability(features, labels[shuffled], classes[shuffled], groups, seed=seed))
    assert np.mean(scores) == pytest.approx(0.5, abs=0.06)


def test_separability_doesnt_depend_on_the_scale_of_a_column():
    features, labels, classes, groups = blobs(distance=0.7)
    before = separability(features, labels, classes, groups, seed=0)
    features[:, 3] *= 1000
    assert separability(features, labels, classes, groups, seed=0) == pytest.approx(before, abs=1e-3)


def test_near_duplicates_dont_vouch_for_each_other():
    """Each photo is there six times: on noise its copies would give its label away."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(60, 8)), 6, axis=0)
    labels = np.repeat(rng.permutation(60) < 30, 6)
    classes = np.where(labels, "fox", "wolf")
    assert separability(features, labels, classes, np.arange(360), seed=0) == 1.0
    assert separability(features, labels, classes, np.repeat(np.arange(60), 6), seed=0) < 0.65


def test_separability_of_very_few_photos_is_a_number():
    features, labels, classes, groups = blobs(distance=5, n=2, classes=2)
    assert 0 <= separability(features, labels, classes, groups, seed=0) <= 1
    assert separability(features, labels, classes, np.zeros(4), seed=0) == 0.5


def test_the_map_keeps_neighbours_together_and_is_repeatable():
    features, labels, classes, groups = blobs(distance=5)
    points = tsne(features, seed=0)
    assert points.shape == (len(features), 2)
    assert points.dtype == np.float32
    assert separability(points, labels, classes, groups, seed=0) > 0.98
    np.testing.assert_array_equal(points, tsne(features, seed=0))


@pytest.mark.parametrize("n", [4, 7])
def test_few_photos_get_a_map_too(n):
    points = tsne(np.random.default_rng(0).normal(size=(n, 80)), seed=0)
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


def test_a_map_of_three_photos_is_refused():
    with pytest.raises(DataError, match=r"at least 4 photos.*\(3, 8\)"):
        tsne(np.zeros((3, 8)), seed=0)


def test_the_sample_of_a_big_dataset_takes_evenly_from_its_classes():
    classes = np.repeat(["fox", "wolf", "horse"], [10, 500, 1000])
    animal = classes == "fox"
    chosen = map_sample(animal, classes, seed=0, limit=110)
    assert (np.diff(chosen) > 0).all()
    assert {name: int((classes[chosen] == name).sum()) for name in np.unique(classes)} == {
        "fox": 10,
        "wolf": 50,
        "horse": 50,
    }
    assert animal[map_sample(animal, classes, seed=0, limit=12)].sum() == 6
    assert len(map_sample(animal, classes, seed=0)) == 1510
