"""The family of networks that a search chooses from: convolutions for shapes, beside them a histogram of colours."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops, regularizers

if TYPE_CHECKING:
    import keras_tuner

Configuration = dict[str, Any]
"""A value for every hyper-parameter of `declare`, plain JSON."""

SIDE = 64

START: tuple[Configuration, ...] = (
    {
        "filters": 24,
        "kernel_size": 3,
        "blocks": 4,
        "colours": 256,
        "dense": 0,
        "activation": "relu",
        "dropout": 0.3,
        "batch_norm": True,
        "l2": 1e-4,
        "optimizer": "adam",
        "learning_rate": 3e-3,
        "batch_size": 16,
    },
)
"""What a search tries first."""

OPTIMIZERS: dict[str, Callable[..., keras.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamax": keras.optimizers.Adamax,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
LABEL_SMOOTHING = 0.1
LEVELS = 8
"""Levels of red, green and blue each, in the histogram of colours."""


def declare(hp: "keras_tuner.HyperParameters") -> None:
    """Register the hyper-parameters of a `Configuration`."""
    hp.Choice("filters", [16, 24, 32, 48])
    hp.Choice("kernel_size", [3, 5])
    hp.Int("blocks", 1, 4)
    hp.Choice("colours", [0, 64, 128, 256])
    hp.Choice("dense", [0, 32, 64, 128])
    hp.Choice("activation", ["relu", "leaky_relu", "silu"])
    hp.Float("dropout", 0.0, 0.6, step=0.1)
    hp.Boolean("batch_norm")
    hp.Choice("l2", [0.0, 1e-5, 1e-4, 1e-3])
    hp.Choice("optimizer", list(OPTIMIZERS))
    hp.Float("learning_rate", 3e-4, 1e-2, sampling="log")
    hp.Choice("batch_size", [8, 16, 32])


def build(
    config: Configuration,
    seed: int,
    *,
    epochs: int,
    steps: int,
    augmentation: Sequence[keras.Layer] = (),
    classes: int = 1,
) -> keras.Model:
    """Return a compiled network, the same for the same arguments.

    Input: uint8 RGB [N, SIDE, SIDE, 3]; output: float32 [N, 1], the probability of the animal, or the probabilities of
    several `classes` [N, C], for which `asked` gives that of the animal. In training, the layers of `augmentation`
    change the photos, 0..255, for all but the histogram. The learning rate falls to 0 along half a cosine, over
    `epochs` of `steps` batches (Loshchilov & Hutter 2017).
    """
    keras.utils.set_random_seed(seed)
    photo = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    # Colours are counted in the photo as it is: turning or zooming smooths its pixels, and with them the histogram.
    changed = photo
    for layer in augmentation:
        changed = layer(changed)
    scale = layers.Rescaling(1 / 127.5, -1)
    parts = [_shapes(scale(changed), config), *([_colours(scale(photo), config)] if config["colours"] else [])]
    # Every part says what it thinks, and is thinned out by itself: concatenated, one part would silence the other.
    votes = []
    for place, part in enumerate(parts):
        thinned = layers.Dropout(config["dropout"], seed=seed + place)(part)
        votes.append(layers.Dense(classes, kernel_regularizer=_l2(config), name=f"vote_{place}")(thinned))
    x = layers.Add()(votes) if len(votes) > 1 else votes[0]
    x = layers.Activation("softmax" if classes > 1 else "sigmoid", dtype="float32")(x)

    model = keras.Model(photo, x, name="network")
    rate = keras.optimizers.schedules.CosineDecay(config["learning_rate"], max(1, epochs * steps))
    loss = keras.losses.CategoricalCrossentropy if classes > 1 else keras.losses.BinaryCrossentropy
    model.compile(OPTIMIZERS[config["optimizer"]](rate), loss(label_smoothing=LABEL_SMOOTHING), metrics=["accuracy"])
    return model


def asked(network: keras.Model, positive: np.ndarray, shift: float) -> keras.Model:
    """Return a network that says how probable the animal is, float32 [N, 1], from one that tells several classes apart.

    `positive`, bool [C], are the classes of the animal; `shift` is added to its log-odds.
    """
    vote = network.get_layer("vote_0")
    kernel, bias = vote.get_weights()
    vote.set_weights([kernel, bias + shift * positive])
    probability = layers.Dense(1, use_bias=False, name="probability")
    model = keras.Model(network.input, probability(network.output), name=network.name)
    probability.set_weights([positive.astype(np.float32)[:, None]])
    return model


def _shapes(x: keras.KerasTensor, config: Configuration) -> keras.KerasTensor:
    """Blocks of one convolution each, every block at half the side of the one before; the mean over the last."""
    for block in range(config["blocks"]):
        first = block == 0
        x = layers.Conv2D(
            config["filters"] * min(2**block, 4),
            config["kernel_size"] + 2 * first,
            strides=2 if first else 1,  # at full side, the first block would cost more than all others together
            padding="same",
            use_bias=not config["batch_norm"],
            kernel_initializer="he_normal",
            kernel_regularizer=_l2(config),
            name=f"convolution_{block + 1}",
        )(x)
        if config["batch_norm"]:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(config["activation"])(x)
        if block + 1 < config["blocks"]:
            x = layers.MaxPooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    if config["dense"]:
        x = layers.Dense(config["dense"], config["activation"], kernel_regularizer=_l2(config))(x)
    return x


def _colours(x: keras.KerasTensor, config: Configuration) -> keras.KerasTensor:
    """A hidden layer on the histogram of colours: the square roots of their shares, whose distances are Hellinger's.

    A linear vote on them would be far worse (as a linear support vector machine is than one of radial kernels).
    """
    x = ops.sqrt(_histogram(x) + 1e-6)
    x = layers.BatchNormalization(momentum=0.9, scale=False)(x)
    return layers.Dense(config["colours"], "relu", kernel_regularizer=_l2(config))(x)


def _histogram(x: keras.KerasTensor) -> keras.KerasTensor:
    """The shares of LEVELS³ colours in every second pixel of every second row, -1..1: [N, LEVELS³].

    A pixel is shared out among the colours of a regular grid by the softmax of its squared distances to them, which is
    the product of the softmaxes of its red, green and blue.
    """
    levels = (np.arange(LEVELS, dtype=np.float32) + 0.5) / LEVELS * 2 - 1
    n_pixels = x.shape[1] * x.shape[2] // 4
    # Pixels come last: where rows are as short as the levels are few, TensorFlow takes twice the time.
    x = ops.transpose(ops.reshape(x[:, ::2, ::2], (-1, n_pixels, 3)), (0, 2, 1))
    near = ops.exp(-ops.square((ops.expand_dims(x, 2) - levels[:, None]) * LEVELS))
    near = near / ops.sum(near, axis=2, keepdims=True)
    red, green, blue = near[:, 0], near[:, 1], near[:, 2]
    red_green = ops.reshape(ops.expand_dims(red, 2) * ops.expand_dims(green, 1), (-1, LEVELS**2, n_pixels))
    counts = layers.Flatten()(ops.matmul(red_green, ops.transpose(blue, (0, 2, 1))))
    return layers.Rescaling(1 / n_pixels, name="histogram")(counts)


def _l2(config: Configuration) -> keras.Regularizer | None:
    return regularizers.L2(config["l2"]) if config["l2"] else None
