"""The models that candidates stand for: fitted on all folds of a job, and fed with its photos."""

import importlib
import logging
from collections.abc import Callable, Sequence

import keras
import numpy as np

from ml.data.datasets import Dataset, Indices
from ml.results import Candidate
from ml.stages.job import Job

log = logging.getLogger(__name__)


def final_model(job: Job, candidate: Candidate) -> keras.Model:
    """Return the candidate's model, fitted by its stage on all folds of the job's dataset."""
    log.info("%s is fitted on %d photos at most", candidate.name, len(job.dataset.training))
    stage = importlib.import_module(f"ml.stages.{candidate.name.split()[0]}")
    return stage.final_model(job, candidate.settings)


def images_for(model: keras.Model, dataset: Dataset, indices: Indices, padding: Sequence[int] | None) -> np.ndarray:
    """Return photos `indices` of the dataset's rows as the model takes them, uint8 [K, H, W, 3].

    `padding` is the colour that its candidate's settings name, or `None` if it takes photos stretched.
    """
    height, width = model.input_shape[1:3]
    red, green, blue = padding or (0, 0, 0)
    return dataset.images(indices, height, width, (red, green, blue) if padding else None)


def predict(
    model: keras.Model,
    dataset: Dataset,
    indices: Indices,
    padding: Sequence[int] | None,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Return the model's probabilities for photos `indices` of the rows, each changed by `change`: float32 [K]."""
    images = images_for(model, dataset, indices, padding)
    if change:
        images = np.stack([change(image) for image in images])
    return model.predict(images, batch_size=32, verbose=0)[:, 0]
