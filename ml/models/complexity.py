"""How much work a network is: the order in which models count as simpler."""

import math

import keras
from keras import layers


def multiply_adds(model: keras.Model, height: int, width: int, channels: int = 3) -> float:
    """Return the multiply-adds for one image of this size, in millions.

    Convolutions and dense layers are counted, the rest is small beside them. The model may leave its sides open.
    """
    sized = keras.models.clone_model(
        model, input_tensors=keras.Input((height, width, channels), dtype=model.input.dtype)
    )
    total = 0
    for layer in sized.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Conv2D):
            total += (
                math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size) * layer.input.shape[-1] // layer.groups
            )
        elif isinstance(layer, layers.Dense):
            total += layer.input.shape[-1] * math.prod(layer.output.shape[1:])
    return total / 1e6
