import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.analysis.classification import wilson_interval
from ml.analysis.selection import (
    NOT_WORSE_MARGIN,
    PairedComparison,
    decide,
    one_standard_error,
    paired_bootstrap,
    selected_accuracy,
)
from ml.errors import DataError


@pytest.mark.parametrize(
    ("scores", "errors", "complexities", "chosen"),
    [
        ([0.90, 0.95, 0.94], [0.02, 0.02, 0.02], [1, 3, 2], 2),  # the simplest is too far behind
        ([0.94, 0.95, 0.94], [0.02, 0.02, 0.02], [1, 3, 2], 0),
        ([0.90, 0.95, 0.94], [0.02, 0.00, 0.02], [1, 3, 2], 1),  # the best one's error counts, no other's
        ([0.94, 0.95, 0.96], [0.05, 0.05, 0.05], [1, 1, 1], 2),  # equally simple: the better
        ([0.95, 0.95], [0.01, 0.01], [2, 2], 0),  # all the same: the first
        ([0.7], [0.1], [5], 0),
    ],
)
def test_one_standard_error(scores, errors, complexities, chosen):
    assert one_standard_error(scores, errors, complexities) == chosen


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.integers(1, 9)), min_size=1, max_size=9))
def test_the_chosen_is_good_and_nothing_as_good_is_simpler(candidates):
    scores, errors, complexities = map(list, zip(*candidates, strict=True))
    chosen = one_standard_error(scores, errors, complexities)
    bar = max(scores) - errors[scores.index(max(scores))]
    assert scores[chosen] >= bar
    good = [c for score, c in zip(scores, complexities, strict=True) if score >= bar]
    assert complexities[chosen] == min(good)


def labels_and_groups(positives: int = 100, negatives: int = 400, pairs: int = 0):
    labels = np.repeat([True, False], [positives, negatives])
    groups = np.arange(positives + negatives)
    groups[1 : 2 * pairs : 2] = groups[: 2 * pairs : 2]
    return labels, groups


def test_selection_among_noise_is_worth_a_coin_flip():
    labels, groups = labels_and_groups(100, 100)
    naive, corrected = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        correct = {f"coin {i}": rng.random(200) < 0.5 for i in range(20)}
        naive.append(max(answers.mean() for answers in correct.values()))
        corrected.append(selected_accuracy(correct, labels, groups, seed, resamples=300).accuracy)
    assert np.mean(naive) > 0.55
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.015)


def test_a_clear_winner_keeps_its_accuracy_and_the_interval_holds_it():
    labels, groups = labels_and_groups()
    rng = np.random.default_rng(0)
    good, poor = rng.random(500) < 0.95, rng.random(500) < 0.6
    balanced = (good[labels].mean() + good[~labels].mean()) / 2
    result = selected_accuracy({"poor": poor, "good": good}, labels, groups, seed=0)
    assert result.accuracy == pytest.approx(balanced, abs=0.005)
    assert result.low < balanced < result.high
    assert result == selected_accuracy({"poor": poor, "good": good}, labels, groups, seed=0)


def test_a_winner_without_mistakes_may_still_make_some():
    labels, groups = labels_and_groups(40, 200)
    result = selected_accuracy({"right": np.ones(240, bool)}, labels, groups, seed=0)
    assert result.accuracy == result.high == 1
    assert result.low == pytest.approx(0.954, abs=0.001)  # Wilson's, of 80 in 80


def test_the_choice_inside_the_resamples_prefers_the_simple_as_the_real_one_does():
    labels, groups = labels_and_groups()
    rng = np.random.default_rng(0)
    complicated, simple = rng.random(500) < 0.97, rng.random(500) < 0.90
    correct = {"complicated": complicated, "simple": simple}
    rule = {
        "standard_errors": {"complicated": 0.2, "simple": 0.2},
        "complexities": {"complicated": 2.0, "simple": 1.0},
    }
    alone = selected_accuracy({"simple": simple}, labels, groups, seed=0)
    assert selected_accuracy(correct, labels, groups, seed=0, **rule) == alone
    assert selected_accuracy(correct, labels, groups, seed=0).accuracy > alone.accuracy


def test_near_duplicates_are_never_on_both_sides_of_a_resample():
    """One that knows half of each pair is at 0.5 whichever groups are drawn, but not whichever photos are."""
    labels, groups = labels_and_groups(20, 20, pairs=20)
    half = {"knows one of each pair": np.arange(40) % 2 == 0}
    result = selected_accuracy(half, labels, groups, seed=0)
    assert (result.low, result.high) == pytest.approx(wilson_interval(20, 40))  # all resamples score 0.5
    apart = selected_accuracy(half, labels, np.arange(40), seed=0)
    assert apart.low < result.low
    assert result.high < apart.high


def test_selected_accuracy_needs_something_to_leave_out():
    with pytest.raises(DataError, match="two near-duplicate groups"):
        selected_accuracy({"a": np.ones(4, bool)}, np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1]), seed=0)


answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=8, max_size=60)


@settings(max_examples=40, deadline=None)
@given(answers=answers, seed=st.integers(0, 2**31), pairs=st.integers(0, 4))
def test_b_against_a_is_the_opposite_of_a_against_b(answers, seed, pairs):
    a, b = (np.array(side) for side in zip(*answers, strict=True))
    labels, groups = labels_and_groups(4, len(a) - 4, pairs)
    forth = paired_bootstrap(labels, a, b, groups, seed, resamples=200)
    back = paired_bootstrap(labels, b, a, groups, seed, resamples=200)
    assert back.difference == pytest.approx(-forth.difference)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert back.probability_better == pytest.approx(1 - forth.probability_better)
    np.testing.assert_array_equal(back.flips_gained, forth.flips_lost)
    assert -1 <= forth.low <= forth.high <= 1


def test_flips_and_difference_are_what_was_put_in():
    labels, groups = labels_and_groups(10, 90)
    a = np.ones(100, bool)
    a[[0, 50]] = False
    b = np.ones(100, bool)
    b[[60]] = False
    result = paired_bootstrap(labels, a, b, groups, seed=0)
    assert result.flips_gained.tolist() == [0, 50]
    assert result.flips_lost.tolist() == [60]
    assert result.difference == pytest.approx((1 / 10 + 0) / 2)
    assert result.n == 100


def test_equal_answers_differ_by_nothing():
    labels, groups = labels_and_groups()
    same = np.random.default_rng(0).random(500) < 0.9
    result = paired_bootstrap(labels, same, same, groups, seed=0)
    assert (result.difference, result.low, result.high, result.probability_better) == (0, 0, 0, 0.5)


def test_the_interval_covers_the_true_difference():
    labels, groups = labels_and_groups(100, 300)
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(300):
        a, b = rng.random(400) < 0.85, rng.random(400) < 0.90
        result = paired_bootstrap(labels, a, b, groups, seed, resamples=500)
        covered.append(result.low <= 0.05 <= result.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)


def test_near_duplicates_widen_the_interval():
    """Pairs that stand and fall together carry the information of one photo: the interval is √2 as wide."""
    rng = np.random.default_rng(0)
    labels, pairs = labels_and_groups(200, 200, pairs=200)
    a, b = (np.repeat(rng.random(200) < 0.8, 2) for _ in range(2))
    grouped = paired_bootstrap(labels, a, b, pairs, seed=0)
    alone = paired_bootstrap(labels, a, b, np.arange(400), seed=0)
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(2), rel=0.08)


def test_the_multinomial_short_cut_is_the_bootstrap_of_groups():
    rng = np.random.default_rng(0)
    labels, groups = labels_and_groups(60, 140, pairs=25)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.85
    result = paired_bootstrap(labels, a, b, groups, seed=0)
    gain = b.astype(int) - a
    differences = []
    for _ in range(4000):
        sides = []
        for side in (labels, ~labels):
            ids = np.unique(groups[side])
            counts = np.bincount(rng.choice(ids, len(ids)), minlength=200)[groups[side]]
            sides.append(np.average(gain[side], weights=counts))
        differences.append(np.mean(sides))
    assert (result.low, result.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.006)


def test_both_are_quick_enough_to_be_run_for_every_comparison():
    labels, groups = labels_and_groups(100, 2550)
    rng = np.random.default_rng(0)
    correct = {str(i): rng.random(2650) < 0.9 for i in range(10)}
    start = time.perf_counter()
    selected_accuracy(correct, labels, groups, seed=0)
    paired_bootstrap(labels, correct["0"], correct["1"], groups, seed=0)
    assert time.perf_counter() - start < 3  # 0.2 s on an idle core


def test_comparisons_need_both_sides():
    ones = np.ones(3, bool)
    with pytest.raises(DataError, match="3 positives and 0 negatives"):
        paired_bootstrap(ones, ones, ones, np.arange(3), seed=0)


def compared(low: float, high: float) -> PairedComparison:
    return PairedComparison((low + high) / 2, low, high, 0.5, 2650, np.array([1, 2, 3]), np.array([4]))


@pytest.mark.parametrize(
    ("low", "high", "complexity", "promote", "words"),
    [
        (0.004, 0.03, 9, True, "better"),  # whatever it costs
        (0.0, 0.03, 9, False, "nor simpler"),  # touching 0 isn't above it
        (0.0, 0.0, 5, False, "nor simpler"),  # a tie keeps the champion
        (0.0, 0.0, 4, True, "not worse than the champion and simpler"),
        (-NOT_WORSE_MARGIN, 0.02, 4, True, "not worse than the champion and simpler"),
        (-0.011, 0.02, 4, False, "isn't shown to be better"),
        (-0.011, 0.02, 9, False, "isn't shown to be better"),
        (-0.03, -0.02, 4, False, "worse than the champion"),
        (-0.005, -0.001, 9, False, "worse than the champion"),
    ],
)
def test_decide(low, high, complexity, promote, words):
    decision = decide(compared(low, high), complexity, champion_complexity=5)
    assert decision.promote is promote
    assert words in decision.reason
    assert f"{100 * low:+.1f} to {100 * high:+.1f}" in decision.reason
    assert "3 newly right, 1 newly wrong" in decision.reason


def test_a_failed_check_bars_even_the_better_and_the_first():
    for comparison in (compared(0.1, 0.2), None):
        decision = decide(comparison, 1, champion_complexity=5, failed_checks=["mirror image", "JPEG"])
        assert not decision.promote
        assert "mirror image, JPEG" in decision.reason


def test_the_first_model_becomes_champion():
    decision = decide(None, 1e6, champion_complexity=0)
    assert decision.promote
    assert "no champion yet" in decision.reason
