"""In one pass over a map or a weight, what Keras does in a dozen: going through memory costs as much as computing."""

import keras
import tensorflow as tf
from keras import layers

from ml import devices


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras's own, which normalises by the batch in one pass over the map there and one back."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        if not training or self.synchronized:
            return super().call(inputs, training=training)
        x, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, self.gamma, self.beta, epsilon=self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * now)
        return x


class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) in one pass over each weight; on several devices Keras's own."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if devices.together() > 1:
            super().update_step(gradient, variable, learning_rate)
            return
        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedAdamW(FusedAdam, keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter 2019) in two."""
