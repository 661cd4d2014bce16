"""What a generator of an earlier stage draws, and what frozen networks see in it."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from ml.data import photos
from ml.errors import ParameterError
from ml.models import gan
from ml.models.backbones import BACKBONES, build_backbone
from ml.results import StageResult
from ml.stages.gan import GENERATOR
from ml.stages.job import GanJob

BATCH = 50


def generator(job: GanJob, trained: StageResult) -> keras.Model:
    """Return the generator that a training left in its run: latents float32 [N, 32] -> uint8 [N, size, size, 3]."""
    return job.tracker.load_network(trained.run_id, GENERATOR)


def pictures(model: keras.Model, n: int, seed: int) -> np.ndarray:
    """Return `n` pictures, uint8 [n, size, size, 3]; a smaller `n` gives the first ones of them."""
    return _through(model, gan.latents(n, seed))


def some(job: GanJob, model: keras.Model) -> np.ndarray:
    """Return the pictures that are judged: as many as the job's params say, of its seed."""
    if job.params.pictures is None:
        raise ParameterError("Expected params that are settled: how many pictures is not said.")
    return pictures(model, job.params.pictures, job.params.seed)


def features(images: np.ndarray, backbone: str) -> np.ndarray:
    """Return what a frozen network makes of pictures, uint8 [N, S, S, 3] -> float32 [N, D], enlarged to its canvas."""
    return said(build_backbone(backbone), images, *BACKBONES[backbone].canvas)


def said(
    model: keras.Model, images: np.ndarray, height: int, width: int, padding: Sequence[int] | None = None
) -> np.ndarray:
    """Return what a network says of pictures, uint8 [N, S, S, 3], that are enlarged to its canvas first: [N, D].

    `padding` is as in `ml.data.photos.resize`.
    """
    red, green, blue = padding or (0, 0, 0)
    colour = (red, green, blue) if padding else None
    return _through(model, images, lambda part: np.stack([photos.resize(one, height, width, colour) for one in part]))


def _through(
    model: keras.Model, rows: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Return what the model makes of the rows, batch by batch.

    Every batch is full, the last with zeros: for any other number of rows TensorFlow would make another program.
    """
    made = []
    for start in range(0, len(rows), BATCH):
        part = prepare(rows[start : start + BATCH])
        full = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
        made.append(model.predict_on_batch(full)[: len(part)])
    return np.concatenate(made)
