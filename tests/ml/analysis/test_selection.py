import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.analysis.intervals import Photos, accuracy, accuracy_interval, standard_error
from ml.analysis.selection import SIMPLER, Answers, choose, selected_accuracy
from ml.errors import DataError


def photos_of(positives: int = 100, others: tuple[int, ...] = (400,), pairs: int = 0) -> Photos:
    """Photos of the animal and of as many classes of others; the first `pairs` pairs are near-duplicates."""
    classes = np.repeat(["fox", *(f"other {i}" for i in range(len(others)))], [positives, *others])
    groups = np.arange(len(classes))
    groups[1 : 2 * pairs : 2] = groups[: 2 * pairs : 2]
    return Photos.of(classes == "fox", classes, groups)


def answers_of(photos: Photos, unseen: dict[str, np.ndarray] | None = None, **correct: np.ndarray) -> Answers:
    nothing = np.full(len(photos.labels), np.nan)
    return Answers(photos, correct, {name: (unseen or {}).get(name, nothing) for name in correct})


def worth(answers: Answers, complexities: dict[str, float] | None = None, seed: int = 0, resamples: int = 1000):
    names = list(answers.correct)
    return selected_accuracy(answers, names, complexities or dict.fromkeys(names, 1.0), seed, resamples)


def right_but(photos: Photos, *wrong: int) -> np.ndarray:
    correct = np.ones(len(photos.labels))
    correct[list(wrong)] = 0
    return correct


def test_the_simplest_as_good_as_the_best_is_chosen_and_the_error_is_that_of_the_difference() -> None:
    """Two that answer alike but for a few photos differ by much less than either is known to."""
    photos = photos_of()
    random = np.random.default_rng(0)
    best = (random.random(500) < 0.9).astype(float)
    slightly, clearly = best.copy(), best.copy()
    slightly[np.flatnonzero(best)[:1]] = 0
    clearly[np.flatnonzero(best)[:3]] = 0
    costs = {"best": 3.0, "simple": 1.0}
    assert choose({"best": best, "simple": slightly}, photos, costs) == "simple"
    behind = accuracy(best - clearly, photos)
    assert behind < standard_error(best, photos), "by the error of either alone it would be as good"
    assert choose({"best": best, "simple": clearly}, photos, costs) == "best"
    assert choose({"best": best, "simple": best}, photos, costs) == "simple"


def test_a_hair_simpler_is_not_simpler() -> None:
    photos = photos_of()
    best, other = right_but(photos, 0), right_but(photos, 0, 1)
    assert choose({"best": best, "other": other}, photos, {"best": 1.0, "other": SIMPLER + 0.01}) == "best"
    assert choose({"best": best, "other": other}, photos, {"best": 1.0, "other": SIMPLER}) == "other"
    assert choose({"first": best, "second": best}, photos, {"first": 2.0, "second": 2.0}) == "first"


@settings(deadline=None, max_examples=40)
@given(rates=st.lists(st.floats(0.5, 1), min_size=1, max_size=6), seed=st.integers(0, 2**31), cost=st.integers(1, 9))
def test_nothing_as_good_is_simpler_than_the_chosen(rates: list[float], seed: int, cost: int) -> None:
    photos, random = photos_of(20, (60,)), np.random.default_rng(seed)
    credits = {str(i): (random.random(80) < rate).astype(float) for i, rate in enumerate(rates)}
    costs = {name: 1 + (int(name) * cost) % 7 for name in credits}
    chosen = choose(credits, photos, costs)
    best = max(credits.values(), key=lambda credit: accuracy(credit, photos))
    behind = {
        name: accuracy(best - credit, photos) - standard_error(best - credit, photos)
        for name, credit in credits.items()
    }
    assert behind[chosen] <= 1e-9
    assert all(costs[name] > SIMPLER * costs[chosen] - 1e-9 for name in credits if behind[name] < -1e-9)


def test_classes_never_seen_count_half_of_the_others() -> None:
    photos = photos_of(10, (40,))
    unseen = np.where(photos.labels, np.nan, 0.0)
    unseen[10:30] = 1
    answers = answers_of(photos, {"a": unseen}, a=np.ones(50, bool))
    assert accuracy(answers.credits(["a"])["a"], photos) == pytest.approx(0.5 + 0.25 + 0.25 * 0.5)


def test_what_is_not_measured_for_one_counts_for_none_of_two() -> None:
    photos = photos_of(10, (40,))
    bad = np.where(photos.labels, np.nan, 0.0)
    answers = answers_of(photos, {"a": bad}, a=np.ones(50, bool), b=np.ones(50, bool))
    assert {name: accuracy(c, photos) for name, c in answers.credits(["a", "b"]).items()} == {"a": 1, "b": 1}


def test_one_without_unseen_classes_must_be_clearly_ahead_to_be_eligible() -> None:
    photos = photos_of(100, (400,))
    measured = np.where(photos.labels, np.nan, 1.0)
    poor = np.arange(500) % 10 > 0
    alike = answers_of(photos, {"a": measured}, a=poor, b=poor)
    assert alike.eligible() == ["a"]
    ahead = answers_of(photos, {"a": measured}, a=poor, b=np.ones(500, bool))
    assert ahead.eligible() == ["a", "b"]
    assert answers_of(photos, a=poor, b=poor).eligible() == ["a", "b"]


def test_uneven_classes_are_one_accuracy_for_choice_and_correction() -> None:
    """2,000 easy birds must not hide five hard classes: a corrected figure above what it corrects was the symptom."""
    photos = photos_of(100, (2000, 20, 20, 20, 20, 20))
    random = np.random.default_rng(0)
    hard = np.arange(2200) >= 2100
    birds = random.random(2200) < np.where(hard, 0.6, 0.99)
    even = random.random(2200) < 0.9
    answers = answers_of(photos, birds=birds, even=even)
    costs = dict.fromkeys(answers.correct, 1.0)
    chosen = choose(answers.credits(list(costs)), photos, costs)
    assert chosen == "even"
    found = worth(answers)
    own = accuracy(even.astype(float), photos)
    assert found.low < found.accuracy <= own
    assert own == pytest.approx(found.accuracy, abs=0.01)


def test_selection_among_noise_is_worth_a_coin_flip() -> None:
    photos = photos_of(100, (100,))
    naive, corrected = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        correct = {f"coin {i}": random.random(200) < 0.5 for i in range(20)}
        naive.append(max(answers.mean() for answers in correct.values()))
        corrected.append(worth(answers_of(photos, **correct), seed=seed, resamples=300).accuracy)
    assert np.mean(naive) > 0.55
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.015)


def test_a_clear_winner_keeps_its_accuracy_and_the_interval_holds_it() -> None:
    photos, random = photos_of(), np.random.default_rng(0)
    good, poor = random.random(500) < 0.95, random.random(500) < 0.6
    balanced = accuracy(good.astype(float), photos)
    result = worth(answers_of(photos, poor=poor, good=good))
    assert result.accuracy == pytest.approx(balanced, abs=0.005)
    assert result.low < balanced < result.high
    assert result == worth(answers_of(photos, poor=poor, good=good))


def test_a_winner_without_mistakes_may_still_make_some() -> None:
    result = worth(answers_of(photos_of(40, (200,)), right=np.ones(240, bool)))
    assert result.accuracy == result.high == 1
    assert 0.94 < result.low < 0.96


def test_the_choice_inside_the_resamples_prefers_the_simple_as_the_real_one_does() -> None:
    photos, random = photos_of(), np.random.default_rng(0)
    complicated = random.random(500) < 0.97
    simple = complicated.copy()
    simple[np.flatnonzero(complicated)[[0]]] = False
    answers = answers_of(photos, complicated=complicated, simple=simple)
    preferred = worth(answers, {"complicated": 2.0, "simple": 1.0})
    assert preferred.accuracy <= accuracy(simple.astype(float), photos) < worth(answers).accuracy + 0.005


def test_near_duplicates_are_never_on_both_sides_of_a_resample() -> None:
    """One that knows half of each pair is at 0.5 whichever groups are drawn, but not whichever photos are."""
    half = np.arange(40) % 2 == 0
    pairs = photos_of(20, (20,), pairs=20)
    assert worth(answers_of(pairs, half=half)).accuracy == pytest.approx(0.5)


def test_selected_accuracy_needs_something_to_leave_out() -> None:
    photos = Photos(np.array([1, 1, 0, 0], bool), np.ones(4), np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="two near-duplicate groups"):
        worth(answers_of(photos, a=np.ones(4, bool)))


def test_the_corrected_interval_covers_the_truth_as_often_as_it_says() -> None:
    photos, covered, means = photos_of(60, (240,)), [], []
    for seed in range(150):
        random = np.random.default_rng(seed)
        equals = {str(i): random.random(300) < 0.92 for i in range(6)}
        found = worth(answers_of(photos, **equals), seed=seed, resamples=100)
        covered.append(found.low <= 0.92 <= found.high)
        means.append(found.accuracy)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert np.mean(means) == pytest.approx(0.92, abs=0.006)


def test_it_is_quick_enough_to_be_run_for_every_comparison() -> None:
    photos, random = photos_of(100, (2550,)), np.random.default_rng(0)
    correct = {str(i): random.random(2650) < 0.9 for i in range(10)}
    start = time.perf_counter()
    worth(answers_of(photos, **correct))
    assert time.perf_counter() - start < 3  # 0.3 s on an idle core


def test_an_accuracy_needs_both_sides() -> None:
    ones = np.ones(3, bool)
    with pytest.raises(DataError, match="3 positives and 0 negatives"):
        Photos.of(ones, np.array(["fox"] * 3), np.arange(3))
    photos = photos_of(3, (3,))
    assert accuracy_interval(np.ones(6), photos)[1] == 1
