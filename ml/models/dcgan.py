"""DCGAN (Radford 2016), which learns from nothing but the photos: what few photos give without a frozen network."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ml import devices
from ml.models.gan import GAN, LATENT, Batch, Pictures, window

BATCH = 16
WIDTH = 64
"""Channels of the discriminator's finest maps and of the generator's finest but one; twice as many a scale below."""


class DCGAN(GAN):
    """See the module. `crops`, `size` and `seed` as of `GAN`."""

    rows = BATCH

    def __init__(self, crops: Pictures, size: int, seed: int, width: int = WIDTH) -> None:
        keras.utils.set_random_seed(seed)
        super().__init__(crops, _build_generator(size, width), seed)
        self.discriminator = _build_discriminator(size, width)
        self._loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self._optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
        for optimizer, network in zip(self._optimizers, (self.discriminator, self.generator), strict=True):
            optimizer.build(network.trainable_variables)
        self.compile(None, jit_compile=False)

    def batch(self, step: int, spent: float = 0.0) -> Batch:
        random = np.random.default_rng([self.seed, step])
        crops = self.crops[random.integers(len(self.crops), size=BATCH)]
        return {
            "step": np.float32(step),
            "latents": random.standard_normal((BATCH, LATENT), np.float32),
            "real": window(crops, self.size, random),
        }

    def pictures(self, step: int, spent: float = 0.0) -> int:
        return BATCH

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch, *_ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(persistent=True) as tape:
            drawn = self.generator(batch["latents"], training=True)
            real_logits, drawn_logits = (self.discriminator(x, training=True) for x in (batch["real"], drawn))
            told_apart = self._loss(tf.ones_like(real_logits), real_logits) + self._loss(
                tf.zeros_like(drawn_logits), drawn_logits
            )
            fooled = self._loss(tf.ones_like(drawn_logits), drawn_logits)
        for optimizer, minimised, network in zip(
            self._optimizers, (told_apart, fooled), (self.discriminator, self.generator), strict=True
        ):
            weights = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(minimised, weights), weights, strict=True))
        self._follow(batch["step"])
        several = devices.together()  # Keras has divided its losses by their number, as gradients are added up
        return {"loss_discriminator": told_apart * several, "loss_generator": fooled * several}

    def _changing(self) -> list[keras.Variable]:
        networks = [*super()._changing(), *self.discriminator.variables]
        return [*networks, *(variable for optimizer in self._optimizers for variable in optimizer.variables)]


def _build_generator(size: int, width: int) -> keras.Model:
    latents = layers.Input((LATENT,), name="latents")
    channels = width * size // 8
    x = layers.Reshape((4, 4, channels))(layers.Dense(4 * 4 * channels, use_bias=False)(latents))
    x = layers.ReLU()(_normalised(x))
    while x.shape[1] < size // 2:
        channels //= 2
        x = layers.Conv2DTranspose(channels, 5, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(_normalised(x))
    x = layers.Conv2DTranspose(3, 5, 2, padding="same", activation="tanh", dtype=devices.FLOAT32)(x)
    return keras.Model(latents, x, name="generator")


def _build_discriminator(size: int, width: int) -> keras.Model:
    pictures = layers.Input((size, size, 3))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(width, 5, 2, padding="same")(pictures))
    while x.shape[1] > 4:
        x = layers.Conv2D(2 * x.shape[-1], 5, 2, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(0.2)(_normalised(x))
    return keras.Model(pictures, layers.Dense(1, dtype=devices.FLOAT32)(layers.Flatten()(x)), name="discriminator")


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.9, synchronized=devices.together() > 1)(x)
