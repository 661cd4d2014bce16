"""Pretrained networks that stay frozen: an image goes in, a vector of features comes out.

Only built-in Keras layers are used, so what is built here is saved, served
and loaded with no code of this project.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from ml.errors import ParameterError
from ml.models.applications import APPLICATIONS, application
from ml.models.efficientnet_lite import RELEASES, efficientnet_lite


@dataclass(frozen=True)
class Backbone:
    """A frozen network and how it likes its images.

    Attributes:
        name: what users call it.
        build: makes the network from its name; see `build_backbone`.
        canvas: (height, width) in pixels into which a photo is fitted, its shape kept, in the middle:
            `PIL.ImageOps.pad(photo, (width, height), color=padding)`. The sides are multiples of 32, the network's
            stride.
        padding: RGB of the rest of the canvas.
        cut: the layer above which the network is fine-tuned; empty where it can't be.
    """

    name: str
    build: Callable[[str], keras.Model]
    # Keeping a photo's shape gave fox 2 to 4 points of accuracy over squashing it. The grey is what the networks'
    # scaling turns to about zero, with which their convolutions pad too. It is the same canvas for all, so that the
    # average of several is a network that takes one photo.
    canvas: tuple[int, int] = (256, 256)
    padding: tuple[int, int, int] = (127, 127, 127)
    cut: str = ""


# The last map of the stage at 1/16 of the image's sides, or near it: what changes most from animal to animal is above.
CUTS = {
    "EfficientNetLite0": "block_10",
    "EfficientNetLite1": "block_14",
    "EfficientNetLite2": "block_14",
    "VGG16": "block4_pool",
    "VGG19": "block4_pool",
    "ResNet50": "conv4_block6_out",
    "ResNet50V2": "conv4_block6_out",
    "MobileNet": "conv_pw_11_relu",
    "MobileNet025": "conv_pw_11_relu",
    "MobileNetV2": "block_12_add",
    "EfficientNetV2B0": "block5e_add",
    "EfficientNetV2S": "block5i_add",
}
BACKBONES = {name: Backbone(name, efficientnet_lite, cut=CUTS[name]) for name in RELEASES} | {
    name: Backbone(name, application, cut=CUTS[name]) for name in APPLICATIONS
}


def build_backbone(name: str) -> keras.Model:
    """The frozen network `name` with its pretrained weights.

    Input: RGB values 0 to 255 [N, height, width, 3] of any size and dtype (scaling is inside); output: float32
    features [N, D]. Gradients reach the input. Raises `ParameterError` for an unknown name, `MissingWeightsError`
    without weights.
    """
    if name not in BACKBONES:
        raise ParameterError(f"Expected one of the backbones {', '.join(BACKBONES)}; received {name!r}.")
    return BACKBONES[name].build(name)
