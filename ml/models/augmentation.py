"""Random changes that leave an animal what it is: layers inside a network, and blends of a batch's photos.

All layers are Keras's own, so that a saved network loads with no code of ours; they are active only in training.
Photos are RGB [N, H, W, 3] of 0..255 throughout.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

RANGE = (0, 255)
Blend = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# In the order in which they are applied.
CHANGES: dict[str, Callable[[int], keras.Layer]] = {
    "mirror": lambda seed: layers.RandomFlip("horizontal", seed=seed),
    "rotation": lambda seed: layers.RandomRotation(0.03, "reflect", seed=seed),
    "translation": lambda seed: layers.RandomTranslation(0.1, 0.1, "reflect", seed=seed),
    "zoom": lambda seed: layers.RandomZoom((-0.2, 0.1), fill_mode="reflect", seed=seed),
    "shear": lambda seed: layers.RandomShear(0.1, 0.1, fill_mode="reflect", seed=seed),
    "brightness": lambda seed: layers.RandomBrightness(0.1, RANGE, seed=seed),
    "contrast": lambda seed: layers.RandomContrast(0.2, RANGE, seed=seed),
    "saturation": lambda seed: layers.RandomSaturation((0.4, 0.6), RANGE, seed=seed),
    "hue": lambda seed: layers.RandomHue(0.1, RANGE, seed=seed),
    "randaugment": lambda seed: layers.RandAugment(RANGE, num_ops=2, factor=0.15, seed=seed),
}
"""Change each photo by itself. Makers, by name; they get the seed."""
BLENDS: dict[str, Callable[[int], keras.Layer]] = {
    "mixup": lambda seed: layers.MixUp(0.2, seed=seed),
    "cutmix": lambda seed: layers.CutMix(seed=seed),
}
"""Blend each photo with another of its batch, and their labels (Zhang 2018; Yun 2019)."""


def change_layers(names: Sequence[str], seed: int) -> list[keras.Layer]:
    """Return layers that change photos uint8 or float32 by those of `names` that aren't blends: float32 out.

    Blends see labels too, and are for `Batches`.
    """
    changes = [make(seed + place) for place, (name, make) in enumerate(CHANGES.items()) if name in names]
    # Some of Keras's layers take floats alone, and RandomSaturation leaves 0..255.
    return [layers.Rescaling(1.0), *changes, layers.ReLU(max_value=RANGE[1])] if changes else []


class Batches:
    """The batches of an epoch that shows each photo `copies` times, shuffled anew every epoch.

    Args:
        images: uint8 [N, H, W, 3].
        targets: float32 [N, C] of 0 and 1, or [N].
        names: a batch holds some of both, blended by those of `names` that are blends, so that targets lie in 0..1.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        names: Sequence[str] = (),
        *,
        copies: int = 1,
        batch_size: int,
        seed: int,
    ) -> None:
        self._images, self._targets, self._batch_size = images, targets, batch_size
        self._shown = np.tile(np.arange(len(images)), copies)
        self._random = np.random.default_rng(seed)
        self._blends = _blends(names, seed)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self._random.permutation(self._shown)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            images, targets = self._images[chosen], self._targets[chosen]
            for blend in self._blends:
                images, targets = blend(images, targets)
            yield images, targets


def samples(images: np.ndarray, names: Sequence[str], versions: int, seed: int) -> np.ndarray:
    """Return how training sees the photos uint8 [N, H, W, 3]: uint8 [versions, N, H, W, 3]."""
    blends, changes = _blends(names, seed), change_layers(names, seed)
    seen = []
    for _ in range(versions):
        pixels, labels = images, np.zeros((len(images), 1), np.float32)
        for blend in blends:
            pixels, labels = blend(pixels, labels)
        for change in changes:
            pixels = change(pixels, training=True)
        seen.append(_whole(pixels))
    return np.stack(seen)


def _blends(names: Sequence[str], seed: int) -> list[Blend]:
    return [_blending(make(seed + place)) for place, (name, make) in enumerate(BLENDS.items()) if name in names]


def _blending(layer: keras.Layer) -> Blend:
    def blend(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = layer({"images": images.astype(np.float32), "labels": labels}, training=True)
        return _whole(both["images"]), keras.ops.convert_to_numpy(both["labels"])

    return blend


def _whole(pixels: Any) -> np.ndarray:
    return np.round(keras.ops.convert_to_numpy(pixels)).astype(np.uint8)
