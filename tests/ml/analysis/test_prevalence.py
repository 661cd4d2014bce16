import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.analysis.prevalence import Estimate, Scores, operating_points, threshold, thresholds


def draw(share: float, photos: int, seed: int, apart: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Whether photos show the animal, and their probabilities, which are calibrated for a share of one half."""
    rng = np.random.default_rng(seed)
    labels = rng.random(photos) < share
    return labels, expit(rng.normal(np.where(labels, apart, -apart), np.sqrt(2 * apart)))


def estimated(probabilities: np.ndarray, prevalence: float | None = None) -> Estimate:
    scores = Scores()
    for part in np.array_split(probabilities, 7):
        scores.add(part, part >= threshold(prevalence))
    estimate = scores.estimate(prevalence)
    assert estimate
    return estimate


@pytest.mark.parametrize("share", [0.01, 0.1, 0.6])
def test_the_intervals_hold_the_truth(share: float) -> None:
    inside = np.zeros(2)
    for seed in range(100):
        labels, probabilities = draw(share, 2000, seed)
        estimate = estimated(probabilities)
        inside += [
            estimate.share_low <= share <= estimate.share_high,
            estimate.right_low <= labels[probabilities >= 0.5].sum() <= estimate.right_high,
        ]
        assert estimate.share_low <= estimate.share <= estimate.share_high
        assert estimate.right_low <= estimate.right <= estimate.right_high
    assert (inside >= 90).all()


def test_the_share_is_the_fixed_point_of_em() -> None:
    _, probabilities = draw(0.05, 3000, 0)
    share = 0.5
    for _ in range(300):
        odds = share / (1 - share) * probabilities / (1 - probabilities)
        share = float((odds / (1 + odds)).mean())
    assert estimated(probabilities).share == pytest.approx(share, rel=0.01)


def test_where_no_photo_shows_it_hardly_any_of_those_found_is_right() -> None:
    labels, probabilities = draw(0, 5000, 1)
    assert not labels.any()
    estimate = estimated(probabilities)
    assert (probabilities >= 0.5).sum() > 100
    assert estimate.share < 0.002
    assert estimate.right < 5


def test_a_known_prevalence_moves_the_threshold_and_has_no_interval() -> None:
    labels, probabilities = draw(0.02, 20_000, 2)
    assert threshold(None) == 0.5
    assert threshold(0.02) == pytest.approx(0.98)
    found = probabilities >= threshold(0.02)
    assert labels[found].mean() > 0.7 > labels[probabilities >= 0.5].mean() + 0.2
    estimate = estimated(probabilities, 0.02)
    assert estimate.share_low == estimate.share == estimate.share_high == 0.02
    assert estimate.right_low <= labels[found].sum() <= estimate.right_high


def test_certain_scores_and_none_at_all() -> None:
    assert Scores().estimate() is None
    assert estimated(np.array([0.0, 1.0, 1.0, 1.0])).share == pytest.approx(0.75, abs=0.01)
    everything = estimated(np.ones(10))
    assert everything.share == 1
    assert everything.right == pytest.approx(10, abs=0.01)


def test_thresholds_are_the_highest_that_find_enough() -> None:
    table = pd.DataFrame({"label": [1] * 100 + [0], "probability": [*np.arange(100)[::-1] / 100, 0.99]})
    found = [(table.probability[:100] >= each).sum() for each in thresholds(table, [0.8, 0.9, 0.97, 0.995])]
    assert found == [80, 90, 97, 100]


def test_operating_points() -> None:
    table = pd.DataFrame(
        {
            "label": [1, 1, 1, 1, 0, 0, 0, 0],
            "class": ["fox"] * 4 + ["owl", "owl", "wolf", "wolf"],
            "group": list("abcdefgh"),
            "probability": [0.9, 0.9, 0.6, 0.2, 0.1, 0.1, 0.1, 0.7],
            "unseen": [np.nan] * 4 + [0.1, 0.1, 0.8, 0.9],
        }
    )
    points = operating_points(table, [0.5, 0.8])
    assert points.sensitivity.tolist() == [0.75, 0.5]
    assert points.false_alarms.tolist() == [0.25, 0]
    assert points.unseen_false_alarms.tolist() == [0.5, 0.5]
    assert (points.unseen_false_alarms_low < 0.2).all()
    assert (points.false_alarms_high > 0.2).all()
    assert "unseen_false_alarms" not in operating_points(table.drop(columns="unseen"), 0.5)
