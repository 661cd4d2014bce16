import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ml.analysis import generative
from ml.errors import DataError

Floats = NDArray[np.float64]


def rows(fewest: int = 4, most: int = 12) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(st.integers(fewest, most), st.just(5))
    return arrays.arrays(np.float64, shapes, elements=st.floats(-3, 3, width=32))


def cloud(n: int, seed: int, centre: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(centre, 1, (n, 8))


@given(rows(), rows())
def test_kid_is_the_mean_over_pairs_of_different_pictures(real: Floats, generated: Floats) -> None:
    def kernel(x: Floats, y: Floats) -> float:
        return (x @ y / len(x) + 1) ** 3

    def within(some: Floats) -> float:
        return float(np.mean([kernel(x, y) for i, x in enumerate(some) for j, y in enumerate(some) if i != j]))

    across = np.mean([kernel(x, y) for x in real for y in generated])
    found = generative.kernel_distance(real, generated)
    assert found.value == pytest.approx(within(real) + within(generated) - 2 * across, abs=1e-8)
    assert found.low <= found.value <= found.high


@given(rows(), rows(), st.randoms(use_true_random=False))
def test_the_order_of_pictures_says_nothing(real: Floats, generated: Floats, random) -> None:
    shuffled = generated[random.sample(range(len(generated)), len(generated))]
    for measure in (generative.kernel_distance, generative.precision_recall):
        assert measure(real, shuffled) == pytest.approx(measure(real, generated), abs=1e-9)


def test_kid_is_unbiased_and_its_interval_holds_the_truth_as_often_as_it_says() -> None:
    found = [generative.kernel_distance(cloud(14, 2 * i), cloud(60, 2 * i + 1)) for i in range(300)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.9 <= covered <= 1

    farther = [generative.kernel_distance(cloud(30, 0), cloud(30, 1, centre)).value for centre in (0.5, 1, 2)]
    assert farther == sorted(farther)


@given(rows(), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_same_pictures_are_precise_complete_and_as_diverse(real: Floats, scale: float, shift: float) -> None:
    assert generative.precision_recall(real, real) == (1, 1)
    moved = real * scale + shift
    if np.ptp(real, axis=0).max() > 0.1:
        assert generative.diversity(real, moved) == pytest.approx(scale, rel=1e-4)


def test_few_good_pictures_are_precise_and_all_over_the_place_is_complete() -> None:
    real = cloud(200, 0)
    collapsed = real[:1] + 0.01 * cloud(50, 1)
    precise = generative.precision_recall(real, collapsed)
    assert precise.precision == 1
    assert precise.recall < 0.1
    assert generative.diversity(real, collapsed) < 0.05

    noise = 4 * cloud(200, 2)
    complete = generative.precision_recall(real, noise)
    assert complete.precision < 0.3
    assert complete.recall > 0.9


@given(rows(), rows(fewest=1))
def test_the_nearest_training_photo_is_nearest(pictures: Floats, training: Floats) -> None:
    found = generative.nearest(pictures, training)
    for picture, distance, index in zip(pictures, *found, strict=True):
        every = np.linalg.norm(training - picture, axis=1)
        assert distance == pytest.approx(every.min(), abs=1e-5)
        assert every[index] == pytest.approx(every.min(), abs=1e-5)


def test_copies_are_nearer_to_the_training_photos_than_new_photos_are() -> None:
    training, held_out = cloud(50, 0), generative.nearest(cloud(20, 1), cloud(50, 0)).distances
    copies = generative.nearest(training + 0.01, training).distances
    new = generative.nearest(cloud(400, 2), training).distances
    assert generative.copy_rate(copies, held_out) == 1
    assert generative.nearer_than_new(copies, held_out) == 1
    assert generative.copy_rate(new, held_out) < 0.15
    assert 0.35 < generative.nearer_than_new(new, held_out) < 0.65
    assert generative.nearer_than_new(held_out, held_out) == 0.5


def test_what_new_photos_would_copy_by_chance() -> None:
    training, rates = cloud(50, 0), []
    for seed in range(200):
        held_out, new = (generative.nearest(cloud(n, 10 * seed + n), training).distances for n in (20, 100))
        rates.append(generative.copy_rate(new, held_out))
    mean, high = generative.copy_rate_by_chance(100, 20)
    assert mean == pytest.approx(1 / 21)
    assert np.mean(rates) == pytest.approx(mean, abs=0.01)
    assert np.mean(np.array(rates) <= high) == pytest.approx(0.95, abs=0.04)


def test_too_few_are_an_error_that_says_how_many() -> None:
    with pytest.raises(DataError, match=r"at least 3 real photos. Received: 2"):
        generative.kernel_distance(cloud(2, 0), cloud(9, 1))
    with pytest.raises(DataError, match="at least 4 generated pictures"):
        generative.precision_recall(cloud(9, 0), cloud(3, 1))
    with pytest.raises(DataError, match="all alike"):
        generative.diversity(np.ones((3, 2)), cloud(3, 1))
