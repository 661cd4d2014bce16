import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ml.analysis import classification
from ml.errors import DataError

FOX, OTHERS = "fox", ["cougar", "horse", "wolf"]


def dataset(positives: int = 40, negatives: int = 300, seed: int = 0):
    """Labels, probabilities that tell them apart roughly, classes and five folds."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([True, False], [positives, negatives])
    classes = np.concatenate([np.repeat(FOX, positives), rng.choice(OTHERS, negatives)])
    probabilities = 1 / (1 + np.exp(-rng.normal(np.where(labels, 1.0, -1.0), 1.0)))
    return labels, probabilities, classes, np.arange(len(labels)) % 5


class_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(positives=st.integers(1, 60), sizes=class_sizes, seed=st.integers(0, 2**31))
def test_draws_are_balanced_even_over_classes_and_repeatable(positives, sizes, seed):
    labels = np.repeat([True, False], [positives, sum(sizes)])
    classes = np.repeat([FOX, *(f"class {i}" for i in range(len(sizes)))], [positives, *sizes])
    draws = classification.balanced_draws(labels, classes, seed)
    for draw, again in zip(draws, classification.balanced_draws(labels, classes, seed), strict=True):
        np.testing.assert_array_equal(draw, again)
        assert len(np.unique(draw)) == len(draw) == 2 * min(positives, sum(sizes))
        assert labels[draw].sum() == len(draw) / 2
        counts = [np.sum(classes[draw] == f"class {i}") for i in range(len(sizes))]
        # Only a class that gave all it has may have given fewer than the others, but for the last round.
        assert all(n == size or n >= max(counts) - 1 for n, size in zip(counts, sizes, strict=True))


def test_the_last_round_favours_no_class():
    classes = np.repeat(["big", "small"], [90, 10])
    first = [
        classes[classification.draw_evenly(np.arange(100), classes, 1, np.random.default_rng(seed))][0]
        for seed in range(400)
    ]
    assert 0.4 < np.mean(np.array(first) == "small") < 0.6


def test_draws_differ_from_each_other_and_by_seed():
    labels, _, classes, _ = dataset()
    draws = classification.balanced_draws(labels, classes, seed=0)
    assert len({draw.tobytes() for draw in draws}) == len(draws) == 5
    other = classification.balanced_draws(labels, classes, seed=1)
    assert not {draw.tobytes() for draw in draws} & {draw.tobytes() for draw in other}


@settings(deadline=None)
@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_proportion_and_mirrors(n, share):
    low, high = classification.wilson_interval(share * n, n)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= share <= high + 1e-12
    mirrored = classification.wilson_interval((1 - share) * n, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
    wider = classification.wilson_interval(share * n, n, confidence=0.99)
    assert wider[0] <= low + 1e-12
    assert wider[1] >= high - 1e-12


def test_wilson_interval_gives_the_published_numbers():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert classification.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert classification.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert classification.wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_covers():
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.98):
        hits = rng.binomial(200, truth, 2000)
        intervals = [classification.wilson_interval(k, 200) for k in hits]
        assert np.mean([low <= truth <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.025)


def test_the_standard_error_is_binomial_and_never_zero():
    assert classification.accuracy_standard_error(0.8, 200) == pytest.approx(np.sqrt(0.16 / 200), rel=0.02)
    assert classification.accuracy_standard_error(1.0, 200) > 0


def test_calibration_of_a_model_that_keeps_its_promises_and_of_one_that_does_not():
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    labels = rng.random(20_000) < honest
    assert classification.expected_calibration_error(labels, honest) < 0.02
    boaster = np.where(honest > 0.5, 1.0, 0.0)
    assert classification.expected_calibration_error(labels, boaster) == pytest.approx(0.25, abs=0.02)
    assert classification.brier_score(labels, honest) == pytest.approx(1 / 6, abs=0.01)
    assert classification.brier_score(labels, np.full(20_000, 0.5)) == 0.25


def test_the_calibration_error_by_chance_is_what_honest_probabilities_show_and_falls_with_their_number():
    rng = np.random.default_rng(1)
    few, many = (rng.random(n) for n in (200, 20_000))
    shown = [classification.expected_calibration_error(rng.random(200) < few, few) for _ in range(200)]
    by_chance = classification.calibration_error_by_chance(few, np.ones(200), seed=0)
    assert by_chance == pytest.approx(np.mean(shown), rel=0.1)
    assert classification.calibration_error_by_chance(many, np.ones(20_000), seed=0) < by_chance / 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_reliability_bins_hold_every_photo_once_and_weights_count_like_copies(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.choice([0.0, 0.2, 1 / 15, 0.5, 0.99, 1.0], 30)
    labels, copies = rng.random(30) < 0.5, rng.integers(0, 4, 30)
    copies[0] = 1
    table = classification.reliability_bins(labels, probabilities, copies)
    assert table.n.sum() == copies.sum()
    assert ((table.low - 1e-9 <= table.mean_probability) & (table.mean_probability <= table.high + 1e-9)).all()
    copied = classification.reliability_bins(np.repeat(labels, copies), np.repeat(probabilities, copies))
    np.testing.assert_allclose(table, copied)


def test_confusion_matrix_has_truth_in_rows_and_means_over_draws():
    labels = np.array([True, True, False, False, False])
    probabilities = np.array([0.9, 0.1, 0.5, 0.2, 0.4])
    np.testing.assert_array_equal(classification.confusion_matrix(labels, probabilities), [[2, 1], [1, 1]])
    weights = classification.draw_weights([np.array([0, 1, 2, 3]), np.array([0, 1, 3, 4])], 5)
    expected = [[1.5, 0.5], [1, 1]]
    np.testing.assert_array_equal(classification.confusion_matrix(labels, probabilities, weights), expected)


def test_class_errors_put_the_worst_class_first():
    labels = np.array([True, True, False, False, False])
    classes = np.array(["fox", "fox", "wolf", "horse", "horse"])
    table = classification.class_errors(labels, np.array([0.9, 0.1, 0.8, 0.2, 0.4]), classes)
    assert table["class"].tolist() == ["wolf", "fox", "horse"]
    assert table.n.tolist() == [1, 2, 2]
    assert table.errors.tolist() == [1, 1, 0]
    assert table.error_rate.tolist() == [1.0, 0.5, 0.0]
    assert ((table.error_low <= table.error_rate) & (table.error_rate <= table.error_high)).all()


def test_evaluate_is_perfect_for_the_truth_and_names_its_metrics():
    labels, _, classes, folds = dataset()
    metrics = classification.evaluate(labels, labels.astype(float), classes, folds, seed=0)
    assert metrics == {
        "cv_accuracy_mean": 1.0,
        "cv_accuracy_std": 0.0,
        "cv_accuracy_low": pytest.approx(0.954, abs=1e-3),
        "cv_accuracy_high": 1.0,
        "cv_roc_auc_mean": 1.0,
        "cv_all_roc_auc": 1.0,
        "cv_all_average_precision": 1.0,
        "cv_all_balanced_accuracy": 1.0,
        "cv_brier": 0.0,
        "cv_ece": 0.0,
        "cv_ece_by_chance": 0.0,
        "n_photos": 340.0,
        "n_positives": 40.0,
    }


def test_evaluate_of_a_model_that_always_says_no():
    labels, _, classes, folds = dataset()
    metrics = classification.evaluate(labels, np.zeros(len(labels)), classes, folds, seed=0)
    # Not the 88 % that it gets right of all photos.
    assert metrics["cv_accuracy_mean"] == pytest.approx(0.5, abs=0.05)
    assert metrics["cv_all_balanced_accuracy"] == metrics["cv_roc_auc_mean"] == 0.5
    assert (metrics["cv_brier"], metrics["cv_ece"]) == pytest.approx((0.5, 0.5))


def test_evaluate_is_what_many_draws_come_to():
    labels, probabilities, classes, folds = dataset()
    metrics = classification.evaluate(labels, probabilities, classes, folds, seed=3, draws=150)
    draws = classification.balanced_draws(labels, classes, seed=3, draws=150)
    correct = (probabilities >= 0.5) == labels
    accuracies = [[correct[draw][folds[draw] == fold].mean() for fold in range(5)] for draw in draws]
    assert metrics["cv_accuracy_mean"] == pytest.approx(np.mean(accuracies), abs=0.005)
    assert metrics["cv_accuracy_std"] == pytest.approx(np.mean(np.std(accuracies, axis=1, ddof=1)))
    areas = [roc_auc_score(labels[draw], probabilities[draw]) for draw in draws]
    assert metrics["cv_roc_auc_mean"] == pytest.approx(np.mean(areas), abs=0.005)
    briers = [np.mean((probabilities[draw] - labels[draw]) ** 2) for draw in draws]
    assert metrics["cv_brier"] == pytest.approx(np.mean(briers), abs=0.005)
    interval = (metrics["cv_accuracy_low"], metrics["cv_accuracy_high"])
    assert interval == pytest.approx(classification.wilson_interval(80 * metrics["cv_accuracy_mean"], 80))


@pytest.mark.parametrize(("positives", "sizes"), [(10, (2, 5, 30)), (40, (3, 4)), (7, (7,)), (5, (1, 1, 1, 1, 1, 9))])
def test_draw_probabilities_are_the_shares_of_many_draws(positives, sizes):
    classes = np.repeat(["fox", *(f"other {i}" for i in range(len(sizes)))], [positives, *sizes])
    labels = classes == "fox"
    drawn = classification.draw_weights(classification.balanced_draws(labels, classes, 0, draws=400), len(labels))
    weights = classification.draw_probabilities(labels, classes)
    assert weights.sum() == pytest.approx(classification.draw_size(labels.sum(), (~labels).sum()))
    np.testing.assert_allclose(weights, drawn, atol=0.1)


def test_evaluate_bears_a_single_fold_and_few_photos():
    labels, probabilities, classes, _ = dataset(positives=2, negatives=1)
    metrics = classification.evaluate(labels, probabilities, classes, np.zeros(3, int), seed=0)
    assert metrics["cv_accuracy_std"] == 0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_evaluate_refuses_what_is_no_probability(bad):
    labels, probabilities, classes, folds = dataset()
    probabilities[7] = bad
    with pytest.raises(DataError, match=r"340 probabilities in \[0, 1\].*1 outside"):
        classification.evaluate(labels, probabilities, classes, folds, seed=0)


def test_evaluate_needs_both_sides():
    labels, probabilities, classes, folds = dataset(positives=5, negatives=0)
    with pytest.raises(DataError, match="5 positives and 0 negatives"):
        classification.evaluate(labels, probabilities, classes, folds, seed=0)
