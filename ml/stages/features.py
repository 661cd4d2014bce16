"""Features and inner maps of frozen backbones: a photo passes each of them once, whatever animal or stage asks."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ml import fingerprint, progress
from ml.data import cache, photos
from ml.data.datasets import Dataset, Indices
from ml.data.views import view
from ml.settings import Settings

if TYPE_CHECKING:
    import keras

BATCH = 32

log = logging.getLogger(__name__)


def features(dataset: Dataset, indices: Indices, backbone: str, settings: Settings) -> np.ndarray:
    """Return the features of photos `indices` of `dataset.rows`, float32 [N, D]."""
    from ml.models.backbones import BACKBONES

    height, width = BACKBONES[backbone].canvas
    hashes = dataset.rows.sha256.iloc[list(indices)].tolist()
    folder = settings.cache / "features" / f"{backbone}-{height}x{width}-{fingerprint.of(__name__)}"
    return cache.features(
        folder, hashes, lambda missing: _forward(dataset, [indices[place] for place in missing], len(hashes), backbone)
    )


def maps(
    dataset: Dataset, indices: Indices, lower: "keras.Model", backbone: str, number: int, settings: Settings
) -> list[np.ndarray]:
    """Return what `lower`, the part of a backbone below its cut, makes of a view of photos `indices` of `dataset.rows`.

    One row a photo, float16 [K], which lies in a file until it is read; `ml.models.finetuning.unpack` opens it.
    `number` is that of `ml.data.views.view`.
    """
    from ml.models.backbones import BACKBONES

    (height, width), cut = BACKBONES[backbone].canvas, BACKBONES[backbone].cut
    hashes = dataset.rows.sha256.iloc[list(indices)].tolist()
    kind = f"{backbone}-{cut}-{height}x{width}-{fingerprint.of(__name__)}"
    folder = settings.cache / "maps" / kind / f"view-{number}"

    def compute(missing: list[int], later: int) -> np.ndarray:
        chosen = [indices[place] for place in missing]
        return _below(dataset, chosen, later, len(hashes), lower, backbone, number)

    return cache.maps(folder, hashes, compute)


def _forward(dataset: Dataset, indices: Indices, of: int, name: str) -> np.ndarray:
    import keras

    from ml.models.backbones import BACKBONES, build_backbone

    (height, width), padding = BACKBONES[name].canvas, BACKBONES[name].padding
    backbone = build_backbone(name)

    def batch(chosen: Indices) -> np.ndarray:
        return keras.ops.convert_to_numpy(backbone.predict_on_batch(dataset.images(chosen, height, width, padding)))

    return _in_batches(indices, batch, name, of)


def _below(
    dataset: Dataset, indices: Indices, later: int, of: int, lower: "keras.Model", name: str, number: int
) -> np.ndarray:
    from ml.models.backbones import BACKBONES
    from ml.models.finetuning import pack

    (height, width), padding = BACKBONES[name].canvas, BACKBONES[name].padding

    def batch(chosen: Indices) -> np.ndarray:
        images = [
            photos.resize(view(dataset.pixels(index), number, dataset.rows.sha256.iloc[index]), height, width, padding)
            for index in chosen
        ]
        return pack(lower.predict_on_batch(np.stack(images)))

    return _in_batches(indices, batch, f"{name}, view {number}", of, later)


def _in_batches(
    indices: Indices, forward: Callable[[Indices], np.ndarray], name: str, of: int, later: int = 0
) -> np.ndarray:
    """Return the rows that `forward` gives, batch by batch, telling how long all take, with the `later` ones.

    Of the photos `of`, those that are neither here nor later were done before.
    """
    started = time.monotonic()
    rows: list[np.ndarray] = []
    for start in range(0, len(indices), BATCH):
        rows.append(forward(indices[start : start + BATCH]))
        done = min(start + BATCH, len(indices))
        waiting = len(indices) - done + later
        progress.tell("photo", of - waiting, of)
        if start // BATCH % 20 == 19 or done == len(indices):
            spent = time.monotonic() - started
            log.info("%s: %d photos, %d to go, %.0f s left", name, done, waiting, spent / done * waiting)
    return np.concatenate(rows)
