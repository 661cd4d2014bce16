"""Networks of `keras.applications`, with the ImageNet weights that Keras keeps in its cache folder."""

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import keras
from keras import applications, layers

from ml.data.sources import download
from ml.errors import MissingWeightsError, NoRetryError, ServiceError

ORIGIN = "https://storage.googleapis.com/tensorflow/keras-applications"
ATTEMPTS = 2
PATIENCE = 30.0
"""Seconds without an answer after which a connection that Keras made is given up."""
PROBE = 256
"""A side in pixels that no layer's own padding makes look like another resolution."""


class Scaling(NamedTuple):
    """What the network wants to see of RGB values from 0 to 255: value * scale + offset, in its order of channels."""

    scale: list[float] | float
    offset: list[float] | float
    order: Literal["RGB", "BGR"]


SIGNED = Scaling(1 / 127.5, -1.0, "RGB")
TORCH = Scaling(
    [1 / (255 * each) for each in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], "RGB"
)
CAFFE = Scaling(1.0, [-123.68, -116.779, -103.939], "BGR")


class Application(NamedTuple):
    """A network, where its weights are below `ORIGIN`, and the input that they were trained for."""

    architecture: Callable[..., keras.Model]
    weights: str
    scaling: Scaling
    options: Mapping[str, Any] = MappingProxyType({})


UNSCALED = MappingProxyType({"include_preprocessing": False})
"""Their own scaling is left out: it is `Scaling` that does it."""
ORDERING = "weights_tf_dim_ordering_tf_kernels"
APPLICATIONS = {
    "VGG16": Application(applications.VGG16, f"vgg16/vgg16_{ORDERING}_notop.h5", CAFFE),
    "VGG19": Application(applications.VGG19, f"vgg19/vgg19_{ORDERING}_notop.h5", CAFFE),
    "ResNet50": Application(applications.ResNet50, f"resnet/resnet50_{ORDERING}_notop.h5", CAFFE),
    "ResNet50V2": Application(applications.ResNet50V2, f"resnet/resnet50v2_{ORDERING}_notop.h5", SIGNED),
    "MobileNet": Application(applications.MobileNet, "mobilenet/mobilenet_1_0_224_tf_no_top.h5", SIGNED),
    "MobileNet025": Application(
        applications.MobileNet, "mobilenet/mobilenet_2_5_224_tf_no_top.h5", SIGNED, MappingProxyType({"alpha": 0.25})
    ),
    "MobileNetV2": Application(
        applications.MobileNetV2, f"mobilenet_v2/mobilenet_v2_{ORDERING}_1.0_224_no_top.h5", SIGNED
    ),
    "EfficientNetV2B0": Application(
        applications.EfficientNetV2B0, "efficientnet_v2/efficientnetv2-b0_notop.h5", TORCH, UNSCALED
    ),
    "EfficientNetV2S": Application(
        applications.EfficientNetV2S,
        "efficientnet_v2/efficientnetv2-s_notop.h5",
        Scaling(1 / 128, -1.0, "RGB"),
        UNSCALED,
    ),
}


def application(name: str, pretrained: bool = True) -> keras.Model:
    """The network `name` of `APPLICATIONS`, frozen.

    Features are the averages of the maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's sides: of each resolution the
    last of those with the most channels, of the smallest the network's output. Without `pretrained` the weights are
    random.

    Raises:
        MissingWeightsError: the weights' file is not in the cache and can't be downloaded, or is damaged.
    """
    chosen = APPLICATIONS[name]
    scale, offset, order = chosen.scaling
    image = layers.Input((None, None, 3), name="image")
    scaled = layers.Rescaling(scale, offset, name="scaled")(image)
    if pretrained:
        network = _pretrained(name, scaled)
    else:
        network = chosen.architecture(include_top=False, weights=None, input_tensor=scaled, **chosen.options)
    if order == "BGR":
        # The first convolution takes the channels in the other order, rather than a layer that swaps them.
        first = next(layer for layer in network.layers if isinstance(layer, layers.Conv2D))
        kernel, *bias = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], *bias])
    averages = [layers.GlobalAveragePooling2D()(x) for x in _last_maps(network)]
    features = layers.Concatenate(name="features")(averages)
    return keras.Model(image, features, name=name.lower(), trainable=False)


def cache_folder() -> Path:
    """Where Keras looks for weights: below `KERAS_HOME`, which it reads when it is imported, or the home folder."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def _last_maps(network: keras.Model) -> list[keras.KerasTensor]:
    outputs = [layer.output for layer in network.layers]
    shapes = keras.Model(network.input, outputs).compute_output_shape((1, PROBE, PROBE, 3))
    maps = []
    for stride in (2, 4, 8, 16):
        here = [(shape[-1], place) for place, shape in enumerate(shapes) if shape[1:3] == (PROBE // stride,) * 2]
        maps.append(outputs[max(here)[1]])
    return [*maps, network.output]


def _pretrained(name: str, scaled: keras.KerasTensor) -> keras.Model:
    """Build the network on `scaled` with its ImageNet weights."""
    architecture, weights, _, options = APPLICATIONS[name]
    file = _weights_file(name, weights)
    try:
        with _patience(), warnings.catch_warnings():
            # MobileNets say that any size means the weights for 224 pixels.
            warnings.filterwarnings("ignore", message=".*input_shape.* is undefined or non-square")
            return architecture(include_top=False, weights="imagenet", input_tensor=scaled, **options)
    except Exception as error:  # what h5py and Keras raise over a damaged file has no common type
        raise MissingWeightsError(
            f"The weights of {name} can't be used: {file} is damaged or another file ({error}). Put the right one"
            f" there, from {ORIGIN}/{weights}; or remove it, and it is downloaded again."
        ) from error


def _weights_file(name: str, weights: str) -> Path:
    """Where the weights are, downloaded if they weren't there."""
    url, file = f"{ORIGIN}/{weights}", cache_folder() / Path(weights).name
    if not file.is_file():
        # Keras's own download waits for ever, and leaves half a file behind when it is killed.
        try:
            download(url, file, attempts=ATTEMPTS)
        except (ServiceError, NoRetryError) as error:
            raise MissingWeightsError(
                f"The weights of {name} are missing: there is no {file.name} in {file.parent}, and downloading it from"
                f" {url} failed ({error.__cause__ or error}). Put the file into that folder, or allow the download."
            ) from error
    return file


@contextmanager
def _patience() -> Iterator[None]:
    """Bound what Keras does on the network: it downloads a file again whose checksum is wrong."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
