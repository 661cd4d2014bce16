"""Seeded fits that tell how far they are."""

import logging
import time
from typing import TYPE_CHECKING

import keras
import numpy as np

from ml import progress

if TYPE_CHECKING:
    import tensorflow as tf

log = logging.getLogger(__name__)


def fit(
    model: keras.Model,
    images: "np.ndarray | tf.data.Dataset",
    labels: np.ndarray | None,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    name: str = "",
) -> dict[str, list[float]]:
    """Fit a compiled model in place, telling each epoch; return its curves, one value an epoch.

    Instead of images and labels it takes a dataset of batches of both, already shuffled, that is one epoch.
    `validation` is only watched: nothing is chosen by it. Without a `name` nothing is logged.
    """
    keras.utils.set_random_seed(seed)
    history = model.fit(
        images,
        labels,
        epochs=epochs,
        batch_size=batch_size if labels is not None else None,
        shuffle=labels is not None,
        callbacks=[*([Watch(*validation)] if validation else []), Epochs(name, epochs)],
        verbose=0,
    )
    return {curve: [float(value) for value in values] for curve, values in history.history.items()}


class Watch(keras.callbacks.Callback):
    """Adds to an epoch's numbers those of photos left out, in one batch, without Keras's evaluation loop."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self._images, self._labels = images, labels

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        found = self.model.test_on_batch(self._images, self._labels, return_dict=True)
        self.model.reset_metrics()
        if logs is not None:
            logs.update({f"val_{name}": float(value) for name, value in found.items()})


class FreshStart:
    """Sets a compiled model back to how it was, so that every fold starts alike and nothing is traced twice."""

    def __init__(self, model: keras.Model) -> None:
        with model.distribute_strategy.scope():  # on the devices that its weights are on
            model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._values = [variable.numpy() for variable in self._variables]

    def restore(self) -> None:
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


class Epochs(keras.callbacks.Callback):
    """Tells each epoch: to who watches the progress and, with a `name`, in the log, with the time left."""

    def __init__(self, name: str, epochs: int) -> None:
        super().__init__()
        self._name, self._epochs, self._started = name, epochs, time.monotonic()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        progress.tell("epoch", epoch + 1, self._epochs, **(logs or {}))
        if not self._name:
            return
        spent = time.monotonic() - self._started
        left = spent / (epoch + 1) * (self._epochs - epoch - 1)
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        log.info("%s epoch %d/%d: %s, %.0f s left", self._name, epoch + 1, self._epochs, numbers, left)
