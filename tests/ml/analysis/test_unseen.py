import numpy as np
import pytest

from ml.analysis.unseen import unseen_classes, unseen_metrics

CLASSES = np.repeat(["fox", "owl", "wolf"], [4, 4, 4])
LABELS = CLASSES == "fox"
PROBABILITIES = np.array([0.9, 0.8, 0.7, 0.4] + [0.1] * 8)
UNSEEN = np.array([np.nan] * 4 + [0.1, 0.2, 0.1, 0.2] + [0.95, 0.75, 0.6, 0.1])


def test_the_animal_is_ranked_against_classes_that_were_never_seen() -> None:
    found = unseen_metrics(LABELS, PROBABILITIES, UNSEEN, CLASSES)
    pairs = PROBABILITIES[LABELS][:, None] > UNSEEN[~LABELS]
    assert found["unseen_auc"] == pytest.approx(pairs.mean())
    assert found["unseen_false_alarms"] == pytest.approx(3 / 8)
    assert 0 <= found["unseen_false_alarms_low"] < 3 / 8 < found["unseen_false_alarms_high"] <= 1


def test_the_interval_is_as_wide_as_few_classes_make_it() -> None:
    """A hundred photos of a wolf say no more of another animal than four do."""
    times = np.repeat(np.arange(12), 25)
    few = unseen_metrics(LABELS, PROBABILITIES, UNSEEN, CLASSES)
    many = unseen_metrics(LABELS[times], PROBABILITIES[times], UNSEEN[times], CLASSES[times])
    assert many["unseen_false_alarms_high"] == pytest.approx(few["unseen_false_alarms_high"])
    assert few["unseen_false_alarms_high"] > 0.8


def test_what_is_not_measured_has_no_metrics() -> None:
    assert unseen_metrics(LABELS, PROBABILITIES, np.full(12, np.nan), CLASSES) == {}


def test_the_worst_classes_come_first() -> None:
    table = unseen_classes(LABELS, UNSEEN, CLASSES)
    assert table["class"].tolist() == ["wolf", "owl"]
    assert table.false_alarms.tolist() == [0.75, 0.0]
    assert (table.low < table.false_alarms + 1e-9).all()
    assert (table.high > table.false_alarms).all()
