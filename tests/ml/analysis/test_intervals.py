import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml.analysis.intervals import Photos, accuracy, accuracy_interval, difference_interval, undecided_below

Floats = NDArray[np.float64]


def photos_of(positives: int, others: tuple[int, ...], burst: int = 1) -> Photos:
    """Photos in bursts of so many, which are one group each."""
    classes = np.repeat(["fox", *(f"other {i}" for i in range(len(others)))], [positives, *others])
    return Photos.of(classes == "fox", classes, 2 * (np.arange(len(classes)) // burst) + (classes == "fox"))


def gains(photos: Photos, gained: float, lost: float, random: np.random.Generator) -> Floats:
    """Differences of so many photos in a hundred; a burst stands or falls together."""
    drawn = random.random(photos.groups.max() + 1)[photos.groups]
    return np.where(drawn < lost, -1.0, np.where(drawn < lost + gained, 1.0, 0.0))


def test_the_limits_are_where_the_score_test_begins_to_reject() -> None:
    """Tango 1998, equations 3 to 7, written out once more."""
    photos = Photos(np.repeat([True, False], 44), np.ones(88), np.arange(88))
    side = np.repeat([1.0, -1.0, 0.0], [9, 1, 34])
    low, high = difference_interval(np.concatenate([side, side]), photos)
    middle = 8 / 44
    # Joined by MOVER, two equal sides have an interval narrower by the root of two than one of them.
    one = (middle - (middle - low) * np.sqrt(2), middle + (high - middle) * np.sqrt(2))

    def score(true: float) -> float:
        b = (2 * 44 - 9 + 1) * true - 10
        lost = (np.sqrt(b * b + 8 * 44 * true * (1 - true)) - b) / (4 * 44)
        return (8 - 44 * true) / np.sqrt(44 * (2 * lost + true * (1 - true)))

    assert [abs(score(end)) for end in one] == pytest.approx([1.96, 1.96], abs=1e-3)


def test_equal_answers_may_differ_by_what_so_few_photos_do_not_show() -> None:
    for positives, reach in ((20, 0.08), (100, 0.018), (400, 0.004)):
        photos = photos_of(positives, (5 * positives,))
        low, high = difference_interval(np.zeros(len(photos.labels)), photos)
        assert low == pytest.approx(-high)
        assert reach < high < 1.4 * reach


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 0.5), st.sampled_from([1, 3]))
def test_the_opposite_has_the_opposite_interval(seed: int, gained: float, lost: float, burst: int) -> None:
    photos = photos_of(12, (20, 5, 40), burst)
    values = gains(photos, gained, lost, np.random.default_rng(seed))
    low, high = difference_interval(values, photos)
    assert difference_interval(-values, photos) == pytest.approx((-high, -low), abs=1e-6)
    assert -1 <= low <= accuracy(values, photos) <= high <= 1


@pytest.mark.parametrize("n", [1, 2, 15, 60, 2000])
def test_all_lost_and_all_gained_have_intervals_too(n: int) -> None:
    photos = photos_of(n, (n,))
    low, high = difference_interval(-np.ones(2 * n), photos)
    assert low == pytest.approx(-1, abs=1e-6)
    assert -1 < high < 1
    assert difference_interval(np.ones(2 * n), photos) == pytest.approx((-high, -low), abs=1e-6)


@pytest.mark.parametrize("burst", [1, 5])
def test_a_burst_counts_as_one_photo(burst: int) -> None:
    photos, random = photos_of(40 * burst, (80 * burst,), burst), np.random.default_rng(0)
    single = photos_of(40, (80,))
    values = gains(single, 0.2, 0.1, random)
    assert difference_interval(np.repeat(values, burst), photos) == pytest.approx(difference_interval(values, single))
    right = (values >= 0).astype(float)
    assert accuracy_interval(np.repeat(right, burst), photos) == pytest.approx(accuracy_interval(right, single))


@pytest.mark.parametrize(
    ("positives", "others", "burst"), [(100, (300,), 1), (100, (200, 50, 50), 4), (200, (500,), 10)]
)
def test_intervals_cover_the_truth_as_often_as_they_say(positives: int, others: tuple[int, ...], burst: int) -> None:
    photos, random, differences, accuracies = photos_of(positives, others, burst), np.random.default_rng(0), [], []
    for _ in range(400):
        values = gains(photos, 0.12, 0.06, random)
        low, high = difference_interval(values, photos)
        differences.append(low <= 0.06 <= high)
        low, high = accuracy_interval((values >= 0).astype(float), photos)
        accuracies.append(low <= 0.94 <= high)
    assert 0.92 <= np.mean(differences) <= 0.985
    assert 0.9 <= np.mean(accuracies) <= 0.985


def test_how_many_it_takes_is_where_equal_answers_are_within_the_margin() -> None:
    for n, others in ((20, 100), (100, 2550)):
        enough = int(np.ceil(undecided_below(n, others, 0.01)))
        for count, within in ((enough - 1, False), (enough, True)):
            photos = photos_of(count, (max(count, others),))
            low, _ = difference_interval(np.zeros(len(photos.labels)), photos)
            assert (low >= -0.01) == within
    assert undecided_below(500, 2550, 0.01) == 500
