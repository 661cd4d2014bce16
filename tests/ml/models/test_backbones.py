import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from ml.errors import MissingWeightsError, ParameterError
from ml.models import backbones
from ml.models.backbones import BACKBONES, build_backbone, read_torch_weights


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return build_backbone("EfficientNetLite0")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth picture that looks the same at every size."""
    ramp = np.linspace(0, 255, height)[:, None] + np.zeros(width)
    return np.stack([ramp, ramp[::-1], np.full_like(ramp, 90)], axis=-1).round().astype(np.uint8)[None]


def test_every_backbone_takes_a_canvas_that_its_stride_divides() -> None:
    assert BACKBONES
    for name, backbone in BACKBONES.items():
        assert backbone.name == name
        assert all(side % 32 == 0 for side in backbone.canvas)


def test_images_of_any_size_give_float32_features(lite0: keras.Model, images: np.ndarray) -> None:
    features = np.asarray(lite0(images))
    assert features.shape == (2, lite0.output_shape[-1])
    assert features.dtype == np.float32
    assert np.asarray(lite0(images[:, :32, :32])).shape == features.shape


def test_uint8_and_float_images_give_the_same_features(lite0: keras.Model, images: np.ndarray) -> None:
    np.testing.assert_array_equal(lite0(images), lite0(images.astype(np.float32)))


def test_a_photo_has_the_same_features_whatever_stands_beside_it(lite0: keras.Model, images: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(lite0(images))[1], np.asarray(lite0(images[1:]))[0], atol=1e-3)


def test_folded_batch_normalisation_equals_the_layers_of_the_paper() -> None:
    """Stem and first block, written out with BatchNormalization layers."""
    weights = read_torch_weights(backbones._lite0_weights_file())
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

    folded = build_backbone("EfficientNetLite0")
    photo = gradient(64, 64).astype(np.float32)
    ours = keras.Model(folded.input, folded.get_layer("block_0").output)(photo)
    np.testing.assert_allclose(ours, keras.Model(image, x)(photo), atol=1e-3)


def test_weights_are_read_in_their_layout() -> None:
    """Channels of the stem that ImageNet never moved have kernels of zeros; a kernel read in another order has none."""
    weights = read_torch_weights(backbones._lite0_weights_file())
    size = np.abs(weights["_conv_stem.weight"]).max(axis=(1, 2, 3))
    dead = weights["_bn0.running_var"] < 1e-6
    assert dead.any()
    assert size[dead].max() < 1e-3 < size[~dead].min()


def test_gradients_reach_the_image(lite0: keras.Model, images: np.ndarray) -> None:
    import tensorflow as tf

    image = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_sum(lite0(image))
    assert np.abs(tape.gradient(total, image)).max() > 0


def test_nothing_trains(lite0: keras.Model) -> None:
    assert lite0.trainable_weights == []


def test_loads_with_built_in_layers_alone(lite0: keras.Model, images: np.ndarray, tmp_path: Path) -> None:
    lite0.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images), lite0(images))


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"EfficientNetLite0.*'vgg99'"):
        build_backbone("vgg99")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "LITE0_PACKAGE", "no_such_package")
    with pytest.raises(MissingWeightsError, match="no_such_package"):
        build_backbone("EfficientNetLite0")


def test_weights_that_were_changed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "LITE0_SHA256", "0" * 64)
    with pytest.raises(MissingWeightsError, match="sha256 0000"):
        build_backbone("EfficientNetLite0")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="eval"):
        read_torch_weights(file)
