"""Seeded fits that tell how far they are."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable

import keras
import numpy as np

from ml import progress

log = logging.getLogger(__name__)


def fit(
    model: keras.Model,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    epochs: int,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    name: str = "",
) -> dict[str, list[float]]:
    """Fit a compiled model in place, telling each epoch; return its curves, one value an epoch.

    Every turn through `batches`, of images and targets, is an epoch. `validation` is only watched, in one batch:
    nothing is chosen by it. Without a `name` nothing is logged.
    """
    keras.utils.set_random_seed(seed)
    told, curves = Epochs(name, epochs), defaultdict(list)
    told.on_train_begin()
    # Keras's own loop makes a pipeline anew for each epoch, which takes as long as many a batch of a small network.
    for epoch in range(epochs):
        said, sizes = [], []
        for images, targets in batches:
            said.append(model.train_on_batch(images, targets, return_dict=True))
            sizes.append(len(images))
        numbers = {metric: float(np.average([one[metric] for one in said], weights=sizes)) for metric in said[0]}
        if validation:
            watched = model.test_on_batch(*validation, return_dict=True)
            numbers |= {f"val_{metric}": float(value) for metric, value in watched.items()}
        told.on_epoch_end(epoch, numbers)
        for metric, value in numbers.items():
            curves[metric].append(value)
    return dict(curves)


class FreshStart:
    """Sets a compiled model back to how it was, so that every fold starts alike and nothing is traced twice."""

    def __init__(self, model: keras.Model) -> None:
        nothing = np.zeros((1, *model.output_shape[1:]), np.float32)
        with model.distribute_strategy.scope():  # on the devices that its weights are on
            model.optimizer.build(model.trainable_variables)
            # Metrics that made their variables in the first step would have TensorFlow trace it a second time.
            model.compute_metrics(None, nothing, nothing)
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
