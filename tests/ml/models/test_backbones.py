from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest

from ml.errors import ParameterError
from ml.models.backbones import BACKBONES, build_backbone
from ml.params import BackboneName


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return build_backbone("EfficientNetLite0")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


def test_the_form_offers_every_backbone() -> None:
    assert set(get_args(BackboneName)) == set(BACKBONES)
    assert all(backbone.name == name for name, backbone in BACKBONES.items())


def test_all_take_the_same_canvas_which_their_stride_divides() -> None:
    """The average of several is one network: it takes one photo, padded once."""
    ((canvas, _),) = {(backbone.canvas, backbone.padding) for backbone in BACKBONES.values()}
    assert all(side % 32 == 0 for side in canvas)


def test_images_of_any_size_give_float32_features(lite0: keras.Model, images: np.ndarray) -> None:
    features = np.asarray(lite0(images))
    assert features.shape == (2, lite0.output_shape[-1])
    assert features.dtype == np.float32
    assert np.asarray(lite0(images[:, :32, :32])).shape == features.shape


def test_uint8_and_float_images_give_the_same_features(lite0: keras.Model, images: np.ndarray) -> None:
    np.testing.assert_array_equal(lite0(images), lite0(images.astype(np.float32)))


def test_a_photo_has_the_same_features_whatever_stands_beside_it(lite0: keras.Model, images: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(lite0(images))[1], np.asarray(lite0(images[1:]))[0], atol=1e-3)


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
