"""Perceptual IMLE with a projected discriminator: for few photos, well aligned.

Every photo gets a latent of its own, the one that draws what is nearest to it among many drawn at random, and the
generator learns to draw the photo from it, as a frozen network sees it (Implicit Maximum Likelihood Estimation, Li &
Malik 2018): so no photo is forgotten, and none is learnt by heart as the latents are matched anew again and again. That
alone blurs. A discriminator (see `ml.models.projected`) on pictures of other latents, ramped in, sharpens.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ml import devices
from ml.models import projected
from ml.models.fused import FusedAdam
from ml.models.gan import CHUNK, GAN, LATENT, Batch, Floats, Pictures, build_generator, draw_signed, window

HALF = 8
"""Pictures in each half of a batch: of matched latents, and of any."""
SEEN = 2
"""How much larger the frozen network sees pictures, up to `LARGEST`."""
LARGEST = 128
ROUND = 250
"""Steps between two matchings."""
CANDIDATES, TARGETS = 1024, 256
"""Latents that are drawn for a matching at least, and windows that are matched at most."""
NOISE = 0.15
SHIFT = 4.0
"""Pixels, and parts of them, that the frozen network sees a matched picture shifted by at most: were it always in the
same place, a mesh as fine as the network's strides could hide from it."""
RATES, FADE = (7e-4, 5e-4), 0.5
"""Learning rates of generator and discriminator, and the share of the training after which they go down to 0."""
PIXELS = 2.0
ADVERSARIAL, RAMP = 0.2, (200, 1000)
"""Weight of the discriminator, and the steps between which it comes in."""
ADVERSARIAL_SHORT, RAMP_SHARES = 0.05, (0.5, 0.8)
"""The same for shares of a training that is short: what little it has drawn so far must not be torn up."""


class IMLE(GAN):
    """See the module. `crops`, `size` and `seed` as of `GAN`."""

    rows = HALF

    def __init__(self, crops: Pictures, size: int, seed: int, width: int = 128) -> None:
        keras.utils.set_random_seed(seed)
        super().__init__(crops, build_generator(size, width), seed)
        seen = max(size, min(LARGEST, SEEN * size))
        pyramid = projected.build_pyramid(seen)
        self.seen = seen
        self.discriminator = projected.build_discriminator([x.shape[1:] for x in pyramid.outputs], seed)
        self._scales = [1.0] * len(pyramid.outputs)
        self._pyramid = lambda pictures: [
            tf.cast(x, devices.FLOAT32) / scale for x, scale in zip(pyramid(pictures), self._scales, strict=True)
        ]
        self._look = tf.function(self._seen, reduce_retracing=True)
        first = self._features(window(crops, size, np.random.default_rng(seed)))
        self._scales = [float(x.std()) for x in first]
        self._look = tf.function(self._seen, reduce_retracing=True)  # the scales are constants in it
        self._matched: dict[str, Any] = {}
        self._generator_optimizer = FusedAdam(RATES[0], 0.5, 0.99)
        self._discriminator_optimizer = FusedAdam(RATES[1], 0.5, 0.99)
        self._generator_optimizer.build(self.generator.trainable_variables)
        self._discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.compile(None, jit_compile=False)

    def train(self, step: int, spent: float = 0.0) -> dict[str, float]:
        left = min(1, (1 - spent) / (1 - FADE))
        for optimizer, rate in zip((self._generator_optimizer, self._discriminator_optimizer), RATES, strict=True):
            optimizer.learning_rate.assign(rate * left)
        return super().train(step, spent)

    def batch(self, step: int, spent: float = 0.0) -> Batch:
        if step % ROUND == 0 or not self._matched:
            self._match(step)
        random = np.random.default_rng([self.seed, step, 1])
        chosen = random.integers(len(self._matched["latents"]), size=HALF)
        matched = self._matched["latents"][chosen]
        batch = {
            "step": np.float32(step),
            "near": matched + NOISE * random.standard_normal(matched.shape, np.float32),
            "targets": self._matched["pictures"][chosen],
            "features": [x[chosen] for x in self._matched["features"]],
            "near_views": {side: by[chosen] for side, by in self._matched["views"].items()},
        }
        weight = _adversarial(step, spent)
        if weight is None:
            return batch
        crops = self.crops[random.integers(len(self.crops), size=HALF)]
        return batch | {
            "free": random.standard_normal((HALF, LATENT), np.float32),
            "real": window(crops, self.size, random),
            "real_views": projected.augmentations(HALF, self.size, self.seen, random),
            "free_views": projected.augmentations(HALF, self.size, self.seen, random),
            "adversarial": np.float32(weight),
        }

    def pictures(self, step: int, spent: float = 0.0) -> int:
        return HALF if _adversarial(step, spent) is None else 2 * HALF

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch, *_ = keras.utils.unpack_x_y_sample_weight(data)
        losses = self._both(batch) if "real" in batch else self._alone(batch)
        self._follow(batch["step"])
        return losses

    def _alone(self, batch: Batch) -> dict[str, tf.Tensor]:
        """A step without discriminator."""
        with tf.GradientTape() as tape:
            near = self.generator(batch["near"], training=True)
            pixels, perceptual = _distances(near, self._seen(near, **batch["near_views"]), batch)
            loss = perceptual + PIXELS * pixels
        _minimise(tape, loss, self.generator, self._generator_optimizer)
        return {"loss_perceptual": perceptual, "loss_pixels": pixels}

    def _both(self, batch: Batch) -> dict[str, tf.Tensor]:
        """A step with discriminator; what the frozen network sees serves the generator's update and its own."""
        real = self._pyramid(projected.augment(batch["real"], batch["real_views"]))
        with tf.GradientTape(persistent=True) as tape:
            drawn = self.generator(tf.concat([batch["near"], batch["free"]], axis=0), training=True)
            near, free = tf.split(drawn, 2)
            views = projected.enlarged(near, **batch["near_views"]), projected.augment(free, batch["free_views"])
            seen = [tf.split(x, 2) for x in self._pyramid(tf.concat(views, axis=0))]
            pixels, perceptual = _distances(near, [x for x, _ in seen], batch)
            judged = [tf.concat([x, y], axis=0) for x, (_, y) in zip(real, seen, strict=True)]
            logits = [tf.split(x, 2) for x in self.discriminator(judged, training=True)]
            fooled = -tf.add_n([tf.reduce_mean(y) for _, y in logits])
            hinge = tf.add_n([tf.reduce_mean(tf.nn.relu(1 - x) + tf.nn.relu(1 + y)) for x, y in logits])
            loss = perceptual + PIXELS * pixels + batch["adversarial"] * fooled
        _minimise(tape, hinge, self.discriminator, self._discriminator_optimizer)
        _minimise(tape, loss, self.generator, self._generator_optimizer)
        return {"loss_perceptual": perceptual, "loss_pixels": pixels, "loss_hinge": hinge, "loss_fooled": fooled}

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | {
            "matched_latents": self._matched["latents"],
            "matched_pictures": self._matched["pictures"],
            "matched_shifts": self._matched["shifts"],
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        matched = [state[f"matched_{name}"] for name in ("latents", "pictures", "shifts")]
        super().restore(state)
        self._match_with(*matched)

    def _changing(self) -> list[keras.Variable]:
        return [
            *super()._changing(),
            *self.discriminator.variables,
            *self._generator_optimizer.variables,
            *self._discriminator_optimizer.variables,
        ]

    def _match(self, step: int) -> None:
        """Give windows of the crops, and their mirror images, a latent each."""
        random = np.random.default_rng([self.seed, step, 2])
        crops = self.crops[random.permutation(len(self.crops))[: TARGETS // 2]]
        windows = window(crops, self.size, random)
        windows = np.concatenate([windows, windows[:, :, ::-1]])
        candidates = random.standard_normal((max(CANDIDATES, 4 * len(windows)), LATENT), np.float32)
        keys = [
            _keys(pictures, self._features(pictures))
            for start in range(0, len(candidates), CHUNK)
            for pictures in [draw_signed(self.generator, candidates[start : start + CHUNK])]
        ]
        chosen = greedy_matching(_keys(windows, self._features(windows)), np.concatenate(keys))
        self._match_with(candidates[chosen], windows, random.uniform(-SHIFT, SHIFT, (2, len(windows))))

    def _match_with(self, latents: Floats, windows: Floats, shifts: NDArray[Any]) -> None:
        self._matched = {
            "latents": latents,
            "pictures": windows,
            "shifts": shifts,
            "views": self._views(shifts),
            "features": self._features(windows, shifts),
        }

    def _views(self, shifts: NDArray[Any]) -> dict[str, Floats]:
        sides = zip(("rows", "columns"), shifts, strict=True)
        return {side: projected.enlarging(by, self.size, self.seen) for side, by in sides}

    def _seen(self, pictures: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> list[tf.Tensor]:
        return self._pyramid(projected.enlarged(pictures, rows, columns))

    def _features(self, pictures: Floats, shifts: NDArray[Any] | None = None) -> list[Floats]:
        """Return what the frozen network sees in pictures from -1 to 1, shifted down and to the right by [2, N]."""
        views = self._views(np.zeros((2, len(pictures))) if shifts is None else shifts)
        parts = [
            self._look(pictures[part], **{side: by[part] for side, by in views.items()})
            for part in (slice(start, start + CHUNK) for start in range(0, len(pictures), CHUNK))
        ]
        return [np.concatenate([x.numpy() for x in scale]) for scale in zip(*parts, strict=True)]


def _adversarial(step: int, spent: float) -> float | None:
    """Return the weight of the discriminator, None before it comes in."""
    ramps = (ADVERSARIAL, step, RAMP), (ADVERSARIAL_SHORT, spent, RAMP_SHARES)
    weight = max(top * min(1.0, (now - start) / (end - start)) for top, now, (start, end) in ramps)
    return None if weight < 0 else weight


def _distances(near: tf.Tensor, seen: list[tf.Tensor], batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Return how far pictures are from their targets, in pixels and as the frozen network sees them."""
    pixels = tf.reduce_mean(tf.abs(near - batch["targets"]))
    return pixels, tf.add_n([tf.reduce_mean(tf.abs(x - y)) for x, y in zip(seen, batch["features"], strict=True)])


def _minimise(tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model, optimizer: keras.Optimizer) -> None:
    weights = network.trainable_variables
    # Each of several devices has the mean over its part of the batch, and the optimizer adds up their gradients.
    share = tf.ones_like(loss) / devices.together()
    optimizer.apply_gradients(zip(tape.gradient(loss, weights, share), weights, strict=True))


def greedy_matching(targets: Floats, candidates: Floats) -> NDArray[np.intp]:
    """Return for each target the index of its candidate, one to one: the nearest pair of all first, and so on."""
    squares = (targets**2).sum(axis=1)[:, None] + (candidates**2).sum(axis=1) - 2 * targets @ candidates.T
    chosen = np.full(len(targets), -1)
    taken = np.zeros(len(candidates), bool)
    left = len(targets)
    for target, candidate in zip(*np.unravel_index(np.argsort(squares, axis=None), squares.shape), strict=True):
        if chosen[target] < 0 and not taken[candidate]:
            chosen[target], taken[candidate] = candidate, True
            left -= 1
            if not left:
                break
    return chosen


def _keys(pictures: Floats, features: list[Floats]) -> Floats:
    """Return what matching compares, one row a picture: the two coarsest maps and 16×16 pixels."""
    n, size = pictures.shape[:2]
    coarse = pictures.reshape(n, 16, size // 16, 16, size // 16, 3).mean(axis=(2, 4))
    parts = [features[-1], features[-2][..., ::4], 4 * coarse]
    return np.concatenate([part.reshape(n, -1) for part in parts], axis=1)
