import keras
import numpy as np
import pytest
import tensorflow as tf

from ml.models.fused import FusedAdam, FusedAdamW


def moved(optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """Return the weights, and what the optimizer remembers, after five steps at falling rates."""
    random = np.random.default_rng(0)
    weights = keras.Variable(random.normal(size=(3, 4)), dtype="float32")
    optimizer.build([weights])

    @tf.function
    def step(gradient: tf.Tensor) -> None:
        optimizer.apply_gradients([(gradient, weights)])

    for number, gradient in enumerate(random.normal(size=(5, 3, 4))):
        optimizer.learning_rate.assign(1e-2 / (1 + number))
        step(tf.constant(gradient, tf.float32))
    return [np.asarray(variable) for variable in (weights, *optimizer.variables)]


@pytest.mark.parametrize(
    ("fused", "of_keras"),
    [
        (FusedAdam(1e-2, 0.5, 0.99), keras.optimizers.Adam(1e-2, 0.5, 0.99)),
        (FusedAdamW(1e-2, weight_decay=0.1), keras.optimizers.AdamW(1e-2, weight_decay=0.1)),
    ],
)
def test_one_pass_moves_the_weights_as_keras_does(
    fused: keras.optimizers.Optimizer, of_keras: keras.optimizers.Optimizer
) -> None:
    for ours, theirs in zip(moved(fused), moved(of_keras), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
