"""Networks trained from scratch: the photos they are given, and how they are fitted and judged on a fold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from ml import training
from ml.analysis.classification import balanced_subset
from ml.crossvalidation import Fold
from ml.models.augmentation import Batches
from ml.stages import evaluation
from ml.stages.job import Job

CHUNK = 128

Fit = Callable[[np.ndarray, tuple[np.ndarray, np.ndarray] | None], tuple[keras.Model, dict[str, list[float]]]]
"""Gets the places of the photos to train on, and images and targets to watch; returns the model and its curves."""


@dataclass(frozen=True)
class Bench:
    """A job's training photos, at the side of the network; a photo is named by its place in them."""

    images: np.ndarray
    """uint8 [N, side, side, 3], stretched."""
    labels: np.ndarray
    """0 or 1 [N]."""
    classes: np.ndarray
    """str [N]."""
    folds: np.ndarray
    """int [N]."""
    negatives: str
    """What is trained on: `balanced` (as many negatives as positives, drawn evenly over their classes) or `all`."""
    seed: int
    by_class: bool = False
    """Whether networks learn to tell all classes apart, or the animal from the others."""

    @classmethod
    def of(cls, job: Job, side: int, negatives: str, seed: int, by_class: bool = False) -> "Bench":
        rows = job.dataset.training
        images = job.dataset.images(rows.index, side, side)
        labels, classes, folds = rows.label.to_numpy(), rows["class"].to_numpy(str), rows.fold.to_numpy()
        return cls(images, labels, classes, folds, negatives, seed, by_class)

    @cached_property
    def targets(self) -> np.ndarray:
        """What networks learn to say, float32 [N, C]: 1 where the photo's class is, or, if C is 1, for the animal."""
        if not self.by_class:
            return self.labels.astype(np.float32)[:, None]
        return (self.classes[:, None] == np.unique(self.classes)).astype(np.float32)

    @cached_property
    def positive(self) -> np.ndarray:
        """Which of the targets are the animal, bool [C]."""
        return self.targets[self.labels == 1].any(axis=0)

    def trained_on(self, *left_out: int) -> np.ndarray:
        """Return the places of the photos to train on where these folds are left out."""
        places = np.flatnonzero(~np.isin(self.folds, left_out))
        return self.balanced(places) if self.negatives == "balanced" else places

    def balanced(self, places: np.ndarray) -> np.ndarray:
        """Return a balanced draw of these places, the same for the same seed."""
        return balanced_subset(places, self.labels, self.classes, self.seed)

    def watched(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and targets of a balanced draw of these places, for the curves of photos left out."""
        drawn = self.balanced(places)
        return self.images[drawn], self.targets[drawn]

    def fit(
        self,
        model: keras.Model,
        places: np.ndarray,
        watched: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        epochs: int,
        batch_size: int,
        name: str,
    ) -> dict[str, list[float]]:
        """Fit a compiled model on the photos at these places, in place; return its curves."""
        shown = Batches(self.images[places], self.targets[places], batch_size=batch_size, seed=self.seed)
        return training.fit(model, shown, epochs=epochs, seed=self.seed, validation=watched, name=name)

    def predict(self, model: keras.Model, places: np.ndarray) -> np.ndarray:
        """Return the probabilities of the animal, float32 [K]."""
        # `model.predict` makes a dataset of its images first, which takes longer than a small network. The last chunk
        # is filled up, since TensorFlow would trace the network anew for another size.
        chunks = np.split(places, range(CHUNK, len(places), CHUNK))
        said = [model.predict_on_batch(self.images[np.resize(chunk, CHUNK)])[: len(chunk)] for chunk in chunks]
        return np.concatenate(said)[:, self.positive].sum(axis=1)

    def judge(self, fold: int, fit: Fit) -> Fold:
        """Return how the model that `fit` returns, trained without this fold, judges it."""
        trained, held_out = self.trained_on(fold), np.flatnonzero(self.folds == fold)
        model, curves = fit(trained, self.watched(held_out))
        probabilities, fitted = self.predict(model, held_out), self.predict(model, trained)
        return evaluation.judged(self.labels, held_out, probabilities, trained, fitted, curves)


def negatives_of(job: Job) -> str:
    """Return what a network from scratch trains on: unless told otherwise, as many negatives as positives."""
    return "all" if job.params.train_negatives == "all" else "balanced"
