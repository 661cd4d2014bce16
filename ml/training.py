"""Seeded fits that tell how far they are, and folds that are not trained twice."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ml.data.files import replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """What one fold of a cross-validation gave."""

    held_out: np.ndarray
    """Indices of the photos that it judged, int [K]."""
    probabilities: np.ndarray
    """Their probabilities of the animal, float32 [K]."""
    curves: dict[str, list[float]]
    """One value an epoch for each curve; empty where nothing was trained by epochs."""
    metrics: dict[str, float]


def fit(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    name: str = "",
) -> dict[str, list[float]]:
    """Fit a compiled model in place, with a line of log an epoch; return its curves, one value an epoch.

    `validation` is only watched: nothing is chosen by it.
    """
    keras.utils.set_random_seed(seed)
    history = model.fit(
        images,
        labels,
        epochs=epochs,
        batch_size=batch_size,
        validation_data=validation,
        validation_batch_size=256,
        callbacks=[EpochLines(name, epochs)],
        verbose=0,
    )
    return {curve: [float(value) for value in values] for curve, values in history.history.items()}


class FreshStart:
    """Sets a compiled model back to how it was, so that every fold starts alike and nothing is traced twice."""

    def __init__(self, model: keras.Model) -> None:
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._values = [variable.numpy() for variable in self._variables]

    def restore(self) -> None:
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


class EpochLines(keras.callbacks.Callback):
    """Logs one line an epoch, with the time left."""

    def __init__(self, name: str, epochs: int) -> None:
        super().__init__()
        self._name, self._epochs, self._started = name, epochs, time.monotonic()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        spent = time.monotonic() - self._started
        left = spent / (epoch + 1) * (self._epochs - epoch - 1)
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        log.info("%s epoch %d/%d: %s, %.0f s left", self._name, epoch + 1, self._epochs, numbers, left)


def cross_validate(folds: Sequence[int], checkpoints: Path, judge: Callable[[int], Fold]) -> list[Fold]:
    """Return the outcome of every fold, judging only those that `checkpoints` doesn't hold from a killed try."""
    outcomes = []
    for fold in folds:
        file = checkpoints / f"fold-{fold}.npz"
        if file.exists():
            log.info("fold %d of %d: taken from the earlier try", fold + 1, len(folds))
        else:
            log.info("fold %d of %d", fold + 1, len(folds))
            _save(file, judge(fold))
        outcomes.append(_load(file))
    return outcomes


def forget(checkpoints: Path) -> None:
    """Remove the checkpoints of work that is done."""
    shutil.rmtree(checkpoints, ignore_errors=True)


def pool(folds: Sequence[Fold], n_photos: int) -> np.ndarray:
    """Return the out-of-fold probabilities of all photos, float32 [n_photos]; NaN where no fold judged one."""
    pooled = np.full(n_photos, np.nan, np.float32)
    for fold in folds:
        pooled[fold.held_out] = fold.probabilities
    return pooled


def _save(file: Path, fold: Fold) -> None:
    said = json.dumps({"curves": fold.curves, "metrics": fold.metrics})
    with replacing(file) as aside:
        np.savez(aside, held_out=fold.held_out, probabilities=fold.probabilities, said=np.array(said))


def _load(file: Path) -> Fold:
    with np.load(file) as kept:
        said = json.loads(str(kept["said"]))
        return Fold(kept["held_out"], kept["probabilities"], said["curves"], said["metrics"])
