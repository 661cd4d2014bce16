"""How a frozen network sees pictures, and a discriminator on top of it.

Projected GANs (Sauer 2021): features of a pretrained network, mixed by fixed random convolutions, and a small hinge
discriminator for each scale. Pictures are augmented before (DiffAugment, Zhao 2020).
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from ml import devices
from ml.devices import FLOAT32
from ml.models.backbones import build_backbone

BACKBONE = "EfficientNetLite0"
BLOCKS = (2, 4, 10, 15)
"""The blocks whose maps are looked at: 1/4, 1/8, 1/16 and 1/32 of the side."""
MIXED = (64, 64, 128, 128)
"""Channels of each scale after the random mixing."""
HEAD = 64
SHIFT, CUTOUT = 1 / 8, 0.4
COLOURED = 0.5
"""Share of the pictures whose brightness is changed; of those whose saturation is, and whose contrast. The others keep
what is changed from leaking into the pictures (Karras 2020, section 2.2)."""

Floats = NDArray[np.float32]


def build_pyramid(size: int) -> keras.Model:
    """Return pictures [N, size, size, 3] from -1 to 1 -> the four maps of `BLOCKS`, fine to coarse; frozen."""
    backbone = build_backbone(BACKBONE)
    blocks = [backbone.get_layer(f"block_{block}").output for block in BLOCKS]
    maps = devices.copied(keras.Model(backbone.input, blocks))
    pictures = layers.Input((size, size, 3))
    seen = maps(layers.Rescaling(127.5, offset=127.5, dtype=FLOAT32)(pictures))
    return keras.Model(pictures, seen, name="pyramid", trainable=False)


def build_discriminator(shapes: Sequence[tuple[int, int, int]], seed: int) -> keras.Model:
    """Return maps of these shapes, fine to coarse, -> one map of logits for each scale."""
    maps = [layers.Input(shape) for shape in shapes]
    mixed: list[keras.KerasTensor] = []
    coarser: keras.KerasTensor | None = None
    for place in reversed(range(len(maps))):
        x = layers.Conv2D(MIXED[place], 1, use_bias=False, kernel_initializer=_random(seed + place), trainable=False)(
            maps[place]
        )
        if coarser is not None:
            up = layers.Conv2D(MIXED[place], 1, kernel_initializer=_random(seed + 10 + place), trainable=False)(coarser)
            x = layers.Add()([x, layers.UpSampling2D(2)(up)])
        coarser = x
        mixed.insert(0, x)
    return keras.Model(maps, [_head(x) for x in mixed], name="discriminator")


def augmentations(n: int, size: int, seen: int, random: np.random.Generator) -> dict[str, Floats]:
    """Draw how `n` pictures of side `size` are changed on their way to side `seen`: see `augment`."""
    rows, columns = (enlarging(random.uniform(-size * SHIFT, size * SHIFT, n), size, seen) for _ in range(2))
    hole = round(CUTOUT * seen)
    kept = np.ones((n, seen, seen, 1), np.float32)
    for mask, y, x in zip(kept, *random.integers(-hole // 2, seen - hole // 2, (2, n)), strict=True):
        mask[max(0, y) : max(0, y + hole), max(0, x) : max(0, x + hole)] = 0
    changed = random.random((3, n, 1, 1, 1)) < COLOURED
    colours = (changed * random.uniform(-1, 1, changed.shape)).astype(np.float32)
    return {
        "rows": rows,
        "columns": columns,
        "kept": kept,
        "brightness": colours[0] / 2,
        "saturation": colours[1] + 1,
        "contrast": colours[2] / 2 + 1,
    }


def augment(pictures: tf.Tensor, how: dict[str, tf.Tensor]) -> tf.Tensor:
    """Change brightness, saturation, contrast and place of pictures from -1 to 1, cut a hole, and enlarge them."""
    x = pictures + how["brightness"]
    grey = tf.reduce_mean(x, axis=3, keepdims=True)
    x = (x - grey) * how["saturation"] + grey
    mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
    x = (x - mean) * how["contrast"] + mean
    return enlarged(x, how["rows"], how["columns"]) * how["kept"]


def enlarged(pictures: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Resample pictures [N, S, S, 3] by two matrices each, [N, seen, S]."""
    n, size, seen = pictures.shape[0] or tf.shape(pictures)[0], pictures.shape[1], rows.shape[1]
    tall = tf.reshape(tf.matmul(rows, tf.reshape(pictures, (n, size, size * 3))), (n, seen, size, 3))
    # Turned round, the columns are one large product a picture, not many with three columns each: thrice as fast.
    turned = tf.reshape(tf.transpose(tall, (0, 2, 1, 3)), (n, size, seen * 3))
    return tf.transpose(tf.reshape(tf.matmul(columns, turned), (n, seen, seen, 3)), (0, 2, 1, 3))


def enlarging(shifts: NDArray[Any], size: int, seen: int) -> Floats:
    """Return for each shift, in pixels or parts of them, the matrix [seen, size] that shifts a row and enlarges it.

    It is linear between the pixels' centres; outside the picture is 0.
    """
    centres = (np.arange(seen) + 0.5) * size / seen - 0.5
    places = np.clip(centres, 0, size - 1)[None] - shifts[:, None]
    return np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(size))).astype(np.float32)


def _random(seed: int) -> keras.Initializer:
    return keras.initializers.HeNormal(seed=seed)


def _head(x: keras.KerasTensor) -> keras.KerasTensor:
    while x.shape[1] > 4:
        x = layers.LeakyReLU(0.2)(SpectralConv2D(HEAD, 4 if x.shape[1] > 8 else 3, 2, padding="same")(x))
    logits = SpectralConv2D(1, min(4, x.shape[1]), padding="valid")(x)
    return layers.Activation("linear", dtype=FLOAT32)(logits)


class SpectralConv2D(layers.Conv2D):
    """A convolution whose kernel, as a matrix, is divided by its largest singular value (Miyato 2018)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.direction = self.add_weight(
            shape=(1, self.filters), initializer="random_normal", trainable=False, autocast=False
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        matrix = tf.reshape(tf.cast(self.kernel, FLOAT32), (-1, self.filters))
        fixed = tf.stop_gradient(matrix)
        left = tf.nn.l2_normalize(tf.matmul(self.direction, fixed, transpose_b=True))
        right = tf.nn.l2_normalize(tf.matmul(left, fixed))
        self.direction.assign(right)
        norm = tf.reduce_sum(tf.matmul(left, matrix) * right)
        x = tf.nn.conv2d(x, self.kernel / tf.cast(norm, x.dtype), self.strides, self.padding.upper())
        return x + self.bias
