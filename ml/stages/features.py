"""Features of frozen backbones: a photo passes each of them once, whatever animal or stage asks."""

import logging
import time

import numpy as np

from ml.data import cache
from ml.data.datasets import Dataset, Indices
from ml.settings import Settings

BATCH = 32

log = logging.getLogger(__name__)


def features(dataset: Dataset, indices: Indices, backbone: str, settings: Settings) -> np.ndarray:
    """Return the features of photos `indices` of `dataset.rows`, float32 [N, D]."""
    from ml.models.backbones import BACKBONES

    height, width = BACKBONES[backbone].canvas
    hashes = dataset.rows.sha256.iloc[list(indices)].tolist()
    folder = settings.cache / "features" / f"{backbone}-{height}x{width}"
    return cache.features(
        folder, hashes, lambda missing: _forward(dataset, [indices[place] for place in missing], backbone)
    )


def _forward(dataset: Dataset, indices: Indices, name: str) -> np.ndarray:
    import keras

    from ml.models.backbones import BACKBONES, build_backbone

    (height, width), padding = BACKBONES[name].canvas, BACKBONES[name].padding
    backbone = build_backbone(name)
    started = time.monotonic()
    rows = []
    for start in range(0, len(indices), BATCH):
        images = dataset.images(indices[start : start + BATCH], height, width, padding)
        rows.append(keras.ops.convert_to_numpy(backbone.predict_on_batch(images)))
        done = start + len(images)
        if start // BATCH % 20 == 19 or done == len(indices):
            spent = time.monotonic() - started
            left = spent / done * (len(indices) - done)
            log.info("%s: %d of %d photos, %.0f s left", name, done, len(indices), left)
    return np.concatenate(rows)
