"""Random changes that leave an animal what it is: layers inside a network, and blends of a batch's photos.

All layers are Keras's own, so that a saved network loads with no code of ours; they are active only in training.
Photos are RGB [N, H, W, 3] of 0..255 throughout.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

RANGE = (0, 255)

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

    Blends see labels too, and are for `batches`.
    """
    changes = [make(seed + place) for place, (name, make) in enumerate(CHANGES.items()) if name in names]
    # Some of Keras's layers take floats alone, and RandomSaturation leaves 0..255.
    return [layers.Rescaling(1.0), *changes, layers.ReLU(max_value=RANGE[1])] if changes else []


def batches(
    images: np.ndarray, targets: np.ndarray, names: Sequence[str], *, copies: int, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Return the batches of an epoch that shows each photo `copies` times, shuffled anew every epoch.

    `images` uint8 [N, H, W, 3], `targets` float32 [N, C] of 0 and 1. A batch holds some of both, blended by those of
    `names` that are blends, so that targets lie in 0..1.
    """
    photos = tf.data.Dataset.from_tensor_slices((images, targets))
    data = photos.repeat(copies).shuffle(copies * len(images), seed=seed).batch(batch_size)
    for place, (name, make) in enumerate(BLENDS.items()):
        if name in names:
            data = data.map(_blending(make(seed + place)))
    return data.prefetch(1)


def samples(images: np.ndarray, names: Sequence[str], versions: int, seed: int) -> np.ndarray:
    """Return how training sees the photos uint8 [N, H, W, 3]: uint8 [versions, N, H, W, 3]."""
    blends = [_blending(make(seed + place)) for place, (name, make) in enumerate(BLENDS.items()) if name in names]
    changes = change_layers(names, seed)
    seen = []
    for _ in range(versions):
        pixels, labels = tf.constant(images), tf.zeros((len(images), 1))
        for blend in blends:
            pixels, labels = blend(pixels, labels)
        for change in changes:
            pixels = change(pixels, training=True)
        seen.append(_whole(pixels).numpy())
    return np.stack(seen)


def _blending(layer: keras.Layer) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def blend(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        both = layer({"images": tf.cast(images, tf.float32), "labels": labels}, training=True)
        return _whole(both["images"]), both["labels"]

    return blend


def _whole(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(tf.cast(pixels, tf.float32)), tf.uint8)
