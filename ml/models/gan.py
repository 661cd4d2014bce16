"""The generator, the picture model that is made of it, and what the recipes that train it have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from ml import devices
from ml.models.fused import FusedBatchNormalization

LATENT = 32
"""Numbers that a picture is drawn from."""
CODE = 8
"""Those of them that decide what is drawn: so few that the photos' own are never far. All decide the grain."""
WIDTH = 128
"""Channels of the coarsest maps."""
FINEST = 16
"""Fewest channels, those of the finest maps."""
GRAIN, GRAINED = 3.0, 64
"""How fast the grain changes with the latents, and the finest map that has any."""
CHUNK = 64
"""Pictures drawn at a time."""

Floats = NDArray[np.float32]
Pictures = NDArray[np.uint8]
Batch = dict[str, Any]


def build_generator(size: int, width: int = WIDTH) -> keras.Model:
    """Return latents float32 [N, 32] -> pictures [N, size, size, 3] from -1 to 1; `size` is 8 times a power of 2.

    After FastGAN (Liu 2021, section 3.1): gated linear units, and skip-layer excitation from maps an eighth as large.
    Each scale doubles by a transposed 3×3 convolution and an average over 2×2: the same as a 3×3 convolution on the
    enlarged map, so without checkerboards, at a quarter of its cost. A last average removes the finest mesh.
    """
    latents = layers.Input((LATENT,), name="latents")
    x = layers.Dense(4 * 4 * 2 * width, use_bias=False)(latents[:, :CODE])
    x = _gated(layers.Reshape((4, 4, 2 * width))(x))
    maps, side = {4: x}, 4
    while side < size:
        side *= 2
        x = _doubled(x, latents, max(FINEST, min(width, width * 8 // side * max(1, size // 64))))
        if side == 8:
            x = _gated(layers.Conv2D(2 * width, 3, padding="same", use_bias=False)(x))
        if side // 8 in maps:
            x = _excited(x, maps[side // 8])
        maps[side] = x
    x = layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    pictures = layers.AveragePooling2D(2, 1, padding="same", dtype=devices.FLOAT32)(x)
    return keras.Model(latents, pictures, name="generator")


def exported(generator: keras.Model) -> keras.Model:
    """Return latents float32 [N, 32] -> uint8 RGB pictures [N, size, size, 3], with weights of its own.

    All of it is built into Keras, so that it is loaded with no code of this project.
    """
    copy = keras.models.clone_model(generator, clone_function=_built_in)
    copy.set_weights(generator.get_weights())
    latents = layers.Input((LATENT,), name="latents")
    values = layers.Rescaling(127.5, offset=127.5)(copy(latents, training=False))
    pictures = ops.cast(ops.round(ops.clip(values, 0, 255)), "uint8")
    return keras.Model(latents, pictures, name="generator", trainable=False)


def draw(generator: keras.Model, latents: Floats) -> Pictures:
    """Return what a generator (not an exported one) draws of `latents` [N, 32]: uint8 [N, size, size, 3]."""
    return np.clip(np.round(draw_signed(generator, latents) * 127.5 + 127.5), 0, 255).astype(np.uint8)


def draw_signed(generator: keras.Model, latents: Floats) -> Floats:
    """Return what a generator draws of `latents` [N, 32], from -1 to 1: [N, size, size, 3]."""
    chunks = [latents[start : start + CHUNK] for start in range(0, len(latents), CHUNK)]
    strategy = generator.distribute_strategy
    return np.concatenate([generator.predict_on_batch(devices.dealt(chunk, strategy)) for chunk in chunks])


def latents(n: int, seed: int) -> Floats:
    """Draw `n` latents, float32 [n, 32]: independent standard normals."""
    return np.random.default_rng(seed).standard_normal((n, LATENT), np.float32)


def window(crops: Pictures, size: int, random: np.random.Generator) -> Floats:
    """Return a random window of each crop, mirrored or not: uint8 [N, S', S', 3] -> [N, size, size, 3] from -1 to 1."""
    ys, xs = random.integers(0, crops.shape[1] - size + 1, (2, len(crops)))
    mirrored = random.random(len(crops)) < 0.5
    cut = [
        crop[y : y + size, x : x + size][:, :: -1 if mirror else 1]
        for crop, y, x, mirror in zip(crops, ys, xs, mirrored, strict=True)
    ]
    return signed(np.stack(cut))


def signed(pictures: Pictures) -> Floats:
    """Return pixels from -1 to 1."""
    return pictures.astype(np.float32) / 127.5 - 1


class GAN(keras.Model):
    """A generator that is being trained on crops, and the running average of its weights, which draws better.

    A recipe gives `train_step` and `batch`. Everything random is drawn from the seed and the step, so what comes after
    a step depends on `state` and on what share of the training is spent, and hardly on the devices in whose scope
    (`ml.devices`) the GAN was made.

    Args:
        crops: uint8 [N, S', S', 3]; random windows of the generator's size are trained on, mirrored or not.
        generator: as of `build_generator`.
        seed: of all that is random from here on.
    """

    rows: int
    """Those of every array in a batch, which several devices share out."""

    def __init__(self, crops: Pictures, generator: keras.Model, seed: int) -> None:
        super().__init__()
        self.crops, self.seed, self.generator = crops, seed, generator
        self.size = generator.output_shape[1]
        with devices.default().scope():  # in float32, as it is published
            self.averaged = devices.copied(generator)
        self.built = True  # lest Keras calls it to build it

    def batch(self, step: int, spent: float) -> Batch:
        """Return what `train_step` needs in this step, counted from 0, when this share of the training is spent."""
        raise NotImplementedError

    def train(self, step: int, spent: float = 0.0) -> dict[str, float]:
        """Take one step; return its losses."""
        batch = devices.dealt(self.batch(step, spent), self.distribute_strategy)
        return self.train_on_batch(batch, return_dict=True)

    def pictures(self, step: int, spent: float = 0.0) -> int:
        """Return how many pictures are drawn in this step."""
        raise NotImplementedError

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that changes in training."""
        return {f"variable_{place:04d}": variable.numpy() for place, variable in enumerate(self._changing())}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from `state`.

        Raises:
            ValueError, KeyError: it belongs to another network; nothing was changed.
        """
        variables = self._changing()
        values = [state[f"variable_{place:04d}"] for place in range(len(variables))]
        for variable, value in zip(variables, values, strict=True):
            if tuple(variable.shape) != value.shape:
                raise ValueError(f"Expected {variable.path} of shape {tuple(variable.shape)}. Received: {value.shape}.")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _changing(self) -> Sequence[keras.Variable]:
        return [*self.generator.variables, *self.averaged.variables]

    def _follow(self, step: tf.Tensor) -> None:
        """Let the average take in the weights after `step`; its memory grows with the steps."""
        decay = tf.minimum(0.999, (1 + step) / (10 + step))
        for average, value in zip(self.averaged.variables, self.generator.variables, strict=True):
            if average.dtype == "float32":
                average.assign_sub((1 - decay) * (average - value))


def _built_in(layer: layers.Layer) -> layers.Layer:
    kind = layers.BatchNormalization if isinstance(layer, layers.BatchNormalization) else type(layer)
    return kind.from_config(layer.get_config())


def _gated(x: keras.KerasTensor) -> keras.KerasTensor:
    """Normalise, and let one half of the channels gate the other (Dauphin 2017)."""
    several = devices.together() > 1
    x, gate = ops.split(FusedBatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=several)(x), 2, axis=-1)
    # TensorFlow's sigmoid in bfloat16 takes four times as long on a CPU.
    return layers.Multiply()([x, layers.Activation("sigmoid", dtype=devices.FLOAT32)(gate)])


def _doubled(x: keras.KerasTensor, latents: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    x = layers.Conv2DTranspose(2 * channels, 3, 2, padding="same", use_bias=False)(x)
    x = layers.AveragePooling2D(2, 1, padding="same")(x)
    if x.shape[1] <= GRAINED:
        weigh = layers.Conv2D(2 * channels, 1, use_bias=False, kernel_initializer="zeros")
        x = layers.Add()([x, weigh(grain(latents, x.shape[1]))])
    return _gated(x)


def grain(latents: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Return noise that the latents decide, [N, side, side, 1] from -1 to 1.

    Fur is made of it; without any a generator repeats one mesh all over. It takes the place of StyleGAN's noise (Karras
    2019, section 2), which would draw another picture from the same latents each time.
    """
    phases = layers.Dense(
        side * side,
        kernel_initializer=keras.initializers.RandomNormal(stddev=GRAIN),
        bias_initializer=keras.initializers.RandomUniform(-np.pi, np.pi),
        trainable=False,
        dtype=devices.FLOAT32,  # sines of large numbers need many digits
    )(latents)
    return layers.Reshape((side, side, 1))(ops.sin(phases))


def _excited(x: keras.KerasTensor, coarse: keras.KerasTensor) -> keras.KerasTensor:
    """Weigh the channels of a map by what a map an eighth as large holds."""
    if coarse.shape[1] > 4:
        coarse = layers.AveragePooling2D(coarse.shape[1] // 4)(coarse)
    channels = x.shape[-1]
    gate = layers.Conv2D(channels, 4, activation="swish")(coarse)
    return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(gate)])
