"""What trains: the GPUs of this machine that are given, in the precision that suits them; without a GPU, the CPU.

Several GPUs train one network by `tf.distribute`: each has a copy of it and takes an equal part of every batch, and the
copies change alike. The batch, and so what is learnt, stays the same.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf

FLOAT32, FLOAT16, BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"
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

    def copy(self, network: keras.Model) -> keras.Model:
        """Return a copy on these devices, with weights of its own; where it would be no other, the network itself."""
        if self.precision == FLOAT32 and self.strategy.num_replicas_in_sync == 1:
            return network
        with self.scope():
            twin = keras.models.clone_model(network, clone_function=_in_this_scope)
            twin.set_weights(network.get_weights())
        return twin


def default() -> Devices:
    """Return TensorFlow's first choice, the first GPU if there is one, in float32."""
    return Devices(tf.distribute.get_strategy())


def given(gpus: int | None, rows: int) -> Devices:
    """Return the GPUs to train on, `gpus` at most (`None`: all that this machine has), in the precision for them.

    Every GPU is to get as many of a batch's `rows` rows as every other; some may stay idle for that.
    """
    here = tf.config.list_physical_devices("GPU")
    here = here[: sharing(min(len(here), gpus or len(here)), rows)]
    chosen = precision([tf.config.experimental.get_device_details(gpu).get("compute_capability", OLD) for gpu in here])
    if here:
        log.info("trains on %d GPU%s, %s", len(here), "s" * (len(here) > 1), chosen)
    if len(here) < 2:
        return Devices(tf.distribute.get_strategy(), chosen)
    return Devices(tf.distribute.MirroredStrategy([f"GPU:{place}" for place in range(len(here))]), chosen)


def sharing(devices: int, rows: int) -> int:
    """Return how many of the devices can share out the rows evenly."""
    return max((n for n in range(1, devices + 1) if rows % n == 0), default=0)


def precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Return the fastest precision in which GPUs of these compute capabilities train as well.

    Float16 needs its loss scaled, which Keras does; but of several devices it watches the first alone for overflows.
    """
    if capabilities and min(capabilities) >= (8, 0):
        return BFLOAT16
    if len(capabilities) == 1 and capabilities[0] >= (7, 0):
        return FLOAT16
    return FLOAT32


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


def _in_this_scope(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config({name: value for name, value in layer.get_config().items() if name != "dtype"})
