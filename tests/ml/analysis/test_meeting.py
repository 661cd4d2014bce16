import numpy as np
import pytest

from ml.analysis import meeting
from ml.analysis.intervals import Photos
from ml.analysis.meeting import NOT_WORSE_MARGIN, PairedComparison, decide
from ml.analysis.selection import Answers


def photos_of(positives: int, others: int) -> Photos:
    labels = np.repeat([True, False], [positives, others])
    return Photos.of(labels, np.where(labels, "fox", "other"), np.arange(len(labels)))


def compared(photos: Photos, a: np.ndarray, b: np.ndarray) -> PairedComparison:
    nothing = np.full(len(photos.labels), np.nan)
    return meeting.compare(Answers(photos, {"a": a, "b": b}, {"a": nothing, "b": nothing}), "a", "b")


def flipped(photos: Photos, gained: float, lost: np.ndarray | float, random: np.random.Generator):
    """Answers of two models, of which the second gets so many photos newly right and newly wrong."""
    drawn = random.random(len(photos.labels))
    first = drawn >= gained
    return first, np.where(drawn < gained, True, drawn < 1 - lost)


def test_flips_and_difference_are_what_was_put_in() -> None:
    photos = photos_of(10, 90)
    a, b = np.ones(100, bool), np.ones(100, bool)
    a[[0, 50]] = False
    b[60] = False
    result = compared(photos, a, b)
    assert result.flips_gained.tolist() == [0, 50]
    assert result.flips_lost.tolist() == [60]
    assert result.difference == pytest.approx((1 / 10 + 0) / 2)
    assert (result.n, result.n_positives) == (100, 10)


def test_twenty_equal_answers_are_too_few_to_tell() -> None:
    """No flip among 20 photos of the animal is compatible with every sixth of them lost."""
    photos = photos_of(20, 100)
    same = np.ones(120, bool)
    decision = decide(compared(photos, same, same), 1, champion_complexity=5)
    assert not decision.promote
    assert "too few photos to tell: with 20 of the animal" in decision.reason
    assert "at least 268 are needed" in decision.reason
    many = photos_of(300, 600)
    assert decide(compared(many, np.ones(900, bool), np.ones(900, bool)), 1, champion_complexity=5).promote


@pytest.mark.parametrize(("positives", "others"), [(20, 100), (50, 250), (100, 2550)])
@pytest.mark.parametrize("flips", [0.0, 0.02])
@pytest.mark.parametrize("of", ["animal", "both", "others"])
def test_one_that_is_a_point_worse_is_hardly_ever_promoted(positives: int, others: int, flips: float, of: str) -> None:
    photos, random, draws = photos_of(positives, others), np.random.default_rng(0), 250
    lost = flips + {"animal": 0.02 * photos.labels, "both": 0.01, "others": 0.02 * ~photos.labels}[of]
    promoted = [decide(compared(photos, *flipped(photos, flips, lost, random)), 1, 5).promote for _ in range(draws)]
    assert np.mean(promoted) <= 0.025 + 2.5 * np.sqrt(0.025 * 0.975 / draws)


@pytest.mark.parametrize(("positives", "others"), [(20, 100), (100, 2550)])
def test_an_equal_one_is_hardly_ever_better(positives: int, others: int) -> None:
    photos, random, draws = photos_of(positives, others), np.random.default_rng(1), 300
    better = [compared(photos, *flipped(photos, 0.05, 0.05, random)).low > 0 for _ in range(draws)]
    assert np.mean(better) <= 0.025 + 2.5 * np.sqrt(0.025 * 0.975 / draws)


@pytest.mark.parametrize(("positives", "others"), [(20, 100), (100, 500), (300, 1500)])
def test_twenty_equal_models_raise_the_champion_by_no_more_than_is_disclosed(positives: int, others: int) -> None:
    photos, risen, disclosed = photos_of(positives, others), [], []
    for chain in range(40):
        random = np.random.default_rng(chain)
        champion = random.random(len(photos.labels)) < 0.95
        start = champion
        for retraining in range(20):
            challenger = random.random(len(photos.labels)) < 0.95
            result = compared(photos, champion, challenger)
            # As simple ones are promoted with less, each is simpler than the last.
            if decide(result, 0.8**retraining, 0.8 ** (retraining - 1)).promote:
                champion = challenger
        sides = [champion[side].mean() - start[side].mean() for side in (photos.labels, ~photos.labels)]
        risen.append(np.mean(sides))
        disclosed.append(meeting.luck_of_many(21, result))
    assert np.mean(risen) <= np.mean(disclosed)


def numbers(low: float, high: float, n_positives: int = 100) -> PairedComparison:
    flips = np.array([1, 2, 3]), np.array([4])
    return PairedComparison((low + high) / 2, low, high, 0.01, 2650, n_positives, 100, *flips)


@pytest.mark.parametrize(
    ("low", "high", "complexity", "promote", "words"),
    [
        (0.004, 0.03, 9, True, "better"),  # whatever it costs
        (0.0, 0.03, 9, False, "nor at least 10 % simpler"),  # touching 0 isn't above it
        (0.0, 0.0, 5, False, "nor at least 10 % simpler"),  # a tie keeps the champion
        (0.0, 0.0, 4.9, False, "nor at least 10 % simpler"),  # by a hair
        (0.0, 0.0, 4, True, "not worse than the champion and simpler"),
        (-NOT_WORSE_MARGIN, 0.02, 4, True, "not worse than the champion and simpler"),
        (-0.011, 0.02, 4, False, "isn't shown to be better"),
        (-0.011, 0.02, 9, False, "isn't shown to be better"),
        (-0.03, -0.02, 4, False, "worse than the champion"),
        (-0.005, -0.001, 9, False, "worse than the champion"),
    ],
)
def test_decide(low: float, high: float, complexity: float, promote: bool, words: str) -> None:
    decision = decide(numbers(low, high), complexity, champion_complexity=5)
    assert decision.promote is promote
    assert words in decision.reason
    assert f"{100 * low:+.1f} to {100 * high:+.1f}" in decision.reason
    assert "3 newly right, 1 newly wrong" in decision.reason


def test_too_few_photos_are_told_from_a_doubt() -> None:
    assert "too few photos to tell: with 99 of the animal" in decide(numbers(-0.02, 0.02, 99), 4, 5).reason
    assert "may be worse by more than 1.0 points" in decide(numbers(-0.02, 0.02, 100), 4, 5).reason
    assert decide(numbers(-0.03, -0.02, 9), 4, 5).reason.startswith("worse")


def test_what_is_simpler_must_not_fall_behind_the_best_so_far() -> None:
    """A point lost unseen at every step would add up."""
    good, behind = numbers(-0.005, 0.02), numbers(-0.03, 0.001)
    assert decide(good, 4, 5, best=good).promote
    refused = decide(good, 4, 5, best=behind)
    assert not refused.promote
    assert "worse than the best champion so far by more than 1.0 points" in refused.reason
    assert decide(numbers(0.01, 0.02), 4, 5, best=behind).promote, "what is better than the champion takes its place"
