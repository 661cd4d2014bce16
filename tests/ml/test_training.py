import logging
from pathlib import Path

import keras
import numpy as np
import pytest

from ml import training
from ml.models.baseline import build_baseline
from ml.training import Fold


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)


LABELS = np.arange(16) % 2


def fold(number: int) -> Fold:
    return Fold(np.array([number]), np.array([number / 10], np.float32), {"loss": [1.0]}, {"accuracy": 0.5})


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


def test_folds_that_an_earlier_try_has_done_are_not_done_again(tmp_path: Path) -> None:
    done = []

    def judge(number: int) -> Fold:
        if number == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return fold(number)

    with pytest.raises(KeyboardInterrupt):
        training.cross_validate(range(4), tmp_path / "work", judge)
    done.append(-1)
    folds = training.cross_validate(range(4), tmp_path / "work", judge)
    assert done == [0, 1, -1, 2, 3]
    assert [int(one.held_out[0]) for one in folds] == [0, 1, 2, 3]
    assert folds[3].curves == {"loss": [1.0]}
    training.forget(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_pooled_predictions_stand_where_their_photos_do() -> None:
    pooled = training.pool([fold(2), fold(0)], 4)
    assert np.isnan(pooled[[1, 3]]).all()
    assert np.allclose(pooled[[0, 2]], [0.0, 0.2])
