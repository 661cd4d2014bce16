import logging

import keras
import numpy as np
import pytest

from ml import training
from ml.models.baseline import build_baseline


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)


LABELS = np.arange(16) % 2


def test_a_fresh_start_gives_the_same_fit_again(images: np.ndarray) -> None:
    keras.utils.set_random_seed(0)
    model = build_baseline()
    start = training.FreshStart(model)
    curves = []
    for _ in range(2):
        start.restore()
        curves.append(training.fit(model, images, LABELS, epochs=2, batch_size=8, seed=0))
    assert curves[0] == curves[1]
    assert len(curves[0]["loss"]) == 2
    go_on = training.fit(model, images, LABELS, epochs=2, batch_size=8, seed=0)
    assert go_on != curves[0]


def test_a_fit_logs_one_line_an_epoch_with_the_time_left(images: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ml.training")
    training.fit(build_baseline(), images, LABELS, epochs=3, batch_size=8, seed=0, name="small")
    lines = [record.message for record in caplog.records if "epoch" in record.message]
    assert len(lines) == 3
    assert lines[0].startswith("small epoch 1/3: ")
    assert lines[2].endswith("0 s left")


def test_a_fit_tells_each_epoch(images: np.ndarray, told: list[str]) -> None:
    training.fit(build_baseline(), images, LABELS, epochs=2, batch_size=8, seed=0)
    assert told == ["epoch 1 of 2", "epoch 2 of 2"]
