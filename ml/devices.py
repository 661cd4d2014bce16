"""What trains: the GPUs of this machine that are given, without a GPU the CPU, each in the precision that suits it.

Several GPUs train one network by `tf.distribute`: each has a copy of it and takes an equal part of every batch, and the
copies change alike. The batch, and so what is learnt, stays the same.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf

from ml.precision import FLOAT16, FLOAT32, precision, precision_of_cpu

OLD = (0, 0)
"""The compute capability of what has none."""
Batch = TypeVar("Batch")

log = logging.getLogger(__name__)


class Devices(NamedTuple):
    """Where networks are trained, and how they compute there.

    Attributes:
        strategy: TensorFlow's default, or one over several devices.
        precision: a dtype policy of Keras; the weights are float32 in each.
    """

    strategy: tf.distribute.Strategy
    precision: str = FLOAT32

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is built in this block is built on these devices, in this precision unless a layer names its own."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with self.strategy.scope():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def unscaled(self) -> "Devices":
        """Return the same for a training that doesn't scale its loss, as float16 needs."""
        return self._replace(precision=FLOAT32) if self.precision == FLOAT16 else self

    def copy(self, network: keras.Model) -> keras.Model:
        """Return a copy on these devices, with weights of its own; where it would be no other, the network itself."""
        if self.precision == FLOAT32 and self.strategy.num_replicas_in_sync == 1:
            return network
        with self.scope():
            return copied(network)


def default() -> Devices:
    """Return TensorFlow's first choice, the first GPU if there is one, in float32."""
    return Devices(tf.distribute.get_strategy())


def given(gpus: int | None, rows: int) -> Devices:
    """Return the GPUs to train on, `gpus` at most (`None`: all that this machine has), in the precision for them.

    Every GPU is to get as many of a batch's `rows` rows as every other; some may stay idle for that.
    """
    here = tf.config.list_physical_devices("GPU")
    here = here[: sharing(min(len(here), gpus or len(here)), rows)]
    if not here:
        return Devices(tf.distribute.get_strategy(), precision_of_cpu())
    chosen = precision([tf.config.experimental.get_device_details(gpu).get("compute_capability", OLD) for gpu in here])
    log.info("trains on %d GPU%s, %s", len(here), "s" * (len(here) > 1), chosen)
    if len(here) < 2:
        return Devices(tf.distribute.get_strategy(), chosen)
    return Devices(tf.distribute.MirroredStrategy([f"GPU:{place}" for place in range(len(here))]), chosen)


def sharing(devices: int, rows: int) -> int:
    """Return how many of the devices can share out the rows evenly."""
    return max((n for n in range(1, devices + 1) if rows % n == 0), default=0)


def copied(network: keras.Model) -> keras.Model:
    """Return a copy with weights of its own, of the precision and on the devices in whose scope this is called."""
    twin = keras.models.clone_model(network, clone_function=_in_this_scope)
    twin.set_weights(network.get_weights())
    return twin


def dealt(batch: Batch, strategy: tf.distribute.Strategy) -> Batch:
    """Give each device its part of a batch: of arrays an equal share of the rows, of single numbers the same."""
    n = strategy.num_replicas_in_sync
    if n == 1:
        return batch

    def part(context: tf.distribute.experimental.ValueContext) -> Any:
        place = context.replica_id_in_sync_group
        return keras.tree.map_structure(
            lambda value: tf.constant(np.array_split(value, n)[place] if np.ndim(value) else value), batch
        )

    return strategy.experimental_distribute_values_from_function(part)


def together() -> int:
    """Return on how many devices at once what is built or computed here runs."""
    return tf.distribute.get_strategy().num_replicas_in_sync


class StridedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's own, frozen, whose way back is in float32.

    OneDNN has none in bfloat16 through strides of a depthwise convolution: TensorFlow's own takes ten times as long.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel, shape = tf.convert_to_tensor(self.kernel), tf.shape(x)
        how = (1, *self.strides, 1), self.padding.upper()

        @tf.custom_gradient
        def convolved(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def back(gradient: tf.Tensor) -> tf.Tensor:
                exact = (tf.cast(part, FLOAT32) for part in (kernel, gradient))
                return tf.cast(tf.nn.depthwise_conv2d_backprop_input(shape, *exact, *how), x.dtype)

            return tf.nn.depthwise_conv2d(x, kernel, *how), back

        x = convolved(x)
        return self.activation(x + self.bias if self.use_bias else x)


@tf.custom_gradient
def relu6(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """TensorFlow's, whose way back is compiled: in bfloat16 on CPUs that takes a third of the time."""
    y = tf.nn.relu6(x)
    return y, lambda gradient: _where_it_changes(y, gradient)


@tf.function(jit_compile=True)
def _where_it_changes(y: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    return tf.where((y > 0) & (y < 6), gradient, tf.zeros_like(gradient))


def _in_this_scope(layer: keras.Layer) -> keras.Layer:
    config = {name: value for name, value in layer.get_config().items() if name != "dtype"}
    if isinstance(layer, keras.layers.Rescaling):  # of pictures, which have more digits than bfloat16
        return type(layer).from_config(config | {"dtype": FLOAT32})
    if keras.config.dtype_policy().compute_dtype != "bfloat16":
        return type(layer).from_config(config)
    if config.get("activation") == "relu6":
        config["activation"] = relu6
    strided = isinstance(layer, keras.layers.DepthwiseConv2D) and max(layer.strides) > 1
    return (StridedDepthwiseConv2D if strided else type(layer)).from_config(config)
