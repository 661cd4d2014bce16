"""The average of several classifiers: a weighted sum of their log-odds, with nothing fitted."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

LIMIT = 1e-6
"""Probabilities count as at least this and at most one less this: beyond, single precision has no log-odds."""


def shared_weights(kinds: Sequence[str]) -> list[float]:
    """A weight for each member: every kind has the same say, and the members of a kind share it.

    The squares of the weights add up to one. A mean of calibrated log-odds is too unsure, as each member knows what
    others don't, and weights that add up to more than one mend that (Satopää et al. 2014, "Combining multiple
    probability predictions using a simple logit model"). These do as if members erred independently of each other.
    """
    shares = np.array([1 / kinds.count(kind) for kind in kinds])
    return [float(weight) for weight in shares / np.linalg.norm(shares)]


def average_probabilities(members: Sequence[ArrayLike], weights: Sequence[float]) -> NDArray[np.float32]:
    """What `build_average` says, from what its members said: each [N] -> float32 [N] in 0 to 1."""
    return expit(np.tensordot(weights, [finite_log_odds(member) for member in members], axes=1)).astype(np.float32)


def finite_log_odds(probabilities: ArrayLike) -> NDArray[np.float64]:
    """The log-odds of probabilities, float64 of their shape, none beyond those of `LIMIT`."""
    odds: NDArray[np.float64] = logit(np.clip(np.asarray(probabilities, np.float64), LIMIT, 1 - LIMIT))
    return odds


def build_average(members: Sequence[keras.Model], weights: Sequence[float]) -> keras.Model:
    """One network of built-in layers of at least two classifiers that take the same images.

    Input: as the members', uint8 RGB [N, height, width, 3]. Output: float32 [N, 1], the probability.
    """
    image = layers.Input(members[0].input_shape[1:], dtype="uint8", name="image")
    odds = layers.Add(name="log_odds")(
        [layers.Rescaling(weight)(_log_odds(member(image))) for member, weight in zip(members, weights, strict=True)]
    )
    return keras.Model(image, layers.Activation("sigmoid", name="probability")(odds), name="average")


def _log_odds(probability: keras.KerasTensor) -> keras.KerasTensor:
    probability = ops.clip(probability, LIMIT, 1 - LIMIT)
    return ops.log(probability) - ops.log(1 - probability)
