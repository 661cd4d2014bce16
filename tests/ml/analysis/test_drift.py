import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.analysis import drift


def rows(n: int, seed: int, mean: float = 0.0, scale: float = 1.0, dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (n, dimensions)).astype(np.float32)


def test_photos_of_one_kind_raise_no_more_alarms_than_asked_for() -> None:
    ps = [drift.measure(rows(30, 2 * s), rows(40, 2 * s + 1), s, permutations=99).p_value for s in range(300)]  # type: ignore[union-attr]
    for level in (0.05, 0.1, 0.5):
        share = np.mean(np.array(ps) <= level)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / len(ps)), level


@pytest.mark.parametrize(("mean", "scale"), [(1.0, 1.0), (0.0, 2.0)])
def test_a_shift_and_a_spread_are_seen(mean: float, scale: float) -> None:
    found = drift.measure(rows(60, 1, mean, scale), rows(80, 2), 0)
    assert found is not None
    assert found.p_value == 0.001
    assert found.distance > 0.15


def test_the_distance_goes_from_nothing_to_one() -> None:
    distances = [
        drift.measure(rows(300, 1, mean), rows(300, 2), 0, permutations=1).distance  # type: ignore[union-attr]
        for mean in (0, 0.5, 1, 3, 100)
    ]
    assert distances[0] < 0.1
    assert distances == sorted(distances)
    assert distances[-1] > 0.97


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 99))
def test_units_do_not_matter(factor: float, shift: float, seed: int) -> None:
    one = drift.measure(rows(20, seed, 0.5), rows(30, seed + 100), 0, permutations=19)
    other = drift.measure(
        rows(20, seed, 0.5) * factor + shift, rows(30, seed + 100) * factor + shift, 0, permutations=19
    )
    assert one is not None
    assert other is not None
    assert other.distance == pytest.approx(one.distance, abs=5e-3)
    assert other.p_value == pytest.approx(one.p_value, abs=0.06)


def test_only_the_unfamiliar_are_called_so() -> None:
    """A kind that is merely more frequent than before is a distance, and still familiar."""
    training = np.concatenate([rows(200, 1, -20), rows(200, 2, 20)])
    one_kind = drift.measure(rows(100, 3, 20), training, 0)
    other = drift.measure(rows(100, 4, 60), training, 0)
    assert one_kind is not None
    assert other is not None
    assert one_kind.distance > 0.3
    assert one_kind.unfamiliar <= 0.1
    assert other.unfamiliar == 1
    assert (other.nearest_new > other.familiar).all()


def in_scenes(scenes: int, each: int, seed: int, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    middles = random.normal(shift, 1, (scenes, 16)).repeat(each, axis=0)
    return (middles + random.normal(0, 0.5, middles.shape)).astype(np.float32)


@pytest.mark.parametrize(("scenes", "each"), [(100, 1), (20, 5), (5, 20)])
def test_a_few_scenes_of_the_same_kind_are_no_drift(scenes: int, each: int) -> None:
    """By the p-value they are far: it takes photos one by one. But they are like the training photos."""
    training = in_scenes(200, 1, 1000)
    found = [drift.measure(in_scenes(scenes, each, s), training, s, permutations=99) for s in range(40)]
    assert np.mean([one is not None and one.is_beyond(0.1, 0.01) for one in found]) <= 0.15
    elsewhere = drift.measure(in_scenes(scenes, each, 0, shift=1.5), training, 0)
    assert elsewhere is not None
    assert elsewhere.is_beyond(0.1, 0.01)
    assert elsewhere.unfamiliar_low <= elsewhere.unfamiliar <= elsewhere.unfamiliar_high


def test_too_few_photos_tell_nothing() -> None:
    assert drift.measure(rows(9, 0), rows(100, 1), 0) is None
    assert drift.measure(rows(100, 0), rows(9, 1), 0) is None
    assert drift.measure(np.empty((0, 0), np.float32), rows(100, 1), 0) is None


def test_the_same_seed_gives_the_same_p() -> None:
    one, other = (drift.measure(rows(20, 1, 0.2), rows(20, 2), 5) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.p_value == other.p_value
