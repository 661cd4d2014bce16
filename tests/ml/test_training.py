import logging

import keras
import numpy as np
import pytest

from ml import training
from ml.models.augmentation import Batches
from ml.models.baseline import build_baseline


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)


def batches(images: np.ndarray) -> Batches:
    return Batches(images, np.arange(16) % 2, batch_size=8, seed=0)


def test_a_fresh_start_gives_the_same_fit_again(images: np.ndarray) -> None:
    keras.utils.set_random_seed(0)
    model = build_baseline()
    start = training.FreshStart(model)
    curves = []
    for _ in range(2):
        start.restore()
        curves.append(training.fit(model, batches(images), epochs=2, seed=0))
    assert curves[0] == curves[1]
    assert len(curves[0]["loss"]) == 2
    go_on = training.fit(model, batches(images), epochs=2, seed=0)
    assert go_on != curves[0]


def test_a_fit_logs_one_line_an_epoch_with_the_time_left(images: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ml.training")
    training.fit(build_baseline(), batches(images), epochs=3, seed=0, name="small")
    lines = [record.message for record in caplog.records if "epoch" in record.message]
    assert len(lines) == 3
    assert lines[0].startswith("small epoch 1/3: ")
    assert lines[2].endswith("0 s left")


def test_a_fit_tells_each_epoch(images: np.ndarray, told: list[str]) -> None:
    training.fit(build_baseline(), batches(images), epochs=2, seed=0)
    assert told == ["epoch 1 of 2", "epoch 2 of 2"]


def test_photos_left_out_are_watched_and_change_nothing(images: np.ndarray) -> None:
    watched = images[:4], np.arange(4) % 2
    fits = []
    for validation in (None, watched):
        keras.utils.set_random_seed(0)
        model = build_baseline()
        fits.append(training.fit(model, batches(images), epochs=2, seed=0, validation=validation))
        loss, accuracy = model.evaluate(*watched, verbose=0)
    alone, beside = fits
    assert {name: beside[name] for name in alone} == alone
    assert beside["val_loss"][-1] == pytest.approx(loss, rel=1e-4)
    assert beside["val_accuracy"][-1] == pytest.approx(accuracy)


class Traced(keras.layers.Layer):
    """Notes, for each time it is traced, whether in training."""

    def __init__(self) -> None:
        super().__init__()
        self.traced: list[bool] = []

    def call(self, x: object, training: bool = False) -> object:
        self.traced.append(training)
        return x


def linear(traced: Traced) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((64, 64, 3)), traced, keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", metrics=["accuracy"])
    return model


def test_curves_are_means_over_all_batches_of_an_epoch(images: np.ndarray) -> None:
    model, scaled = linear(Traced()), images / np.float32(1e4)
    curves = training.fit(model, [(scaled[:12], np.ones(12)), (scaled[12:], np.zeros(4))], epochs=1, seed=0)
    loss, accuracy = model.evaluate(scaled, np.repeat([1, 0], [12, 4]), verbose=0)
    assert curves["loss"] == [pytest.approx(loss, rel=1e-4)]
    assert curves["accuracy"] == [pytest.approx(accuracy)]


def test_a_step_is_traced_once(images: np.ndarray) -> None:
    layer = Traced()
    model = linear(layer)
    training.FreshStart(model)
    layer.traced.clear()
    training.fit(model, batches(images), epochs=2, seed=0)
    assert layer.traced == [True]
