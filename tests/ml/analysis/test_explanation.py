from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from ml.analysis import explanation
from ml.errors import ParameterError
from ml.models import hypermodel
from ml.models.average import build_average
from ml.models.baseline import build_baseline
from ml.models.head import LinearHead, build_classifier

SIDE = 24
LEFT, RIGHT = np.s_[:, :6, :6], np.s_[:, :6, 18:]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (5, SIDE, SIDE, 3), dtype=np.uint8)


def looks_at(corner: tuple, name: str = "looks", strength: float = 1e-3) -> keras.Model:
    """A network whose answer depends on the brightness of one corner alone."""
    photo = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = layers.Rescaling(1 / 255)(photo)
    x = layers.Conv2D(2, 1, activation="relu", kernel_initializer="ones", name="bright")(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    out = layers.Dense(1, activation="sigmoid", name="answer")(x)
    model = keras.Model(photo, out, name=name)
    counts = np.zeros((1, SIDE, SIDE, 2), np.float32)
    counts[corner] = strength
    model.get_layer("answer").set_weights([counts.reshape(-1, 1), np.zeros(1)])
    return model


def averages_red(strength: float, classes: bool = False) -> keras.Model:
    """A network whose answer is how red the photo is on average; with `classes`, a backbone within a softmax of two."""
    photo = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(photo)
    conv = layers.Conv2D(2, 1, name="colours", kernel_initializer=keras.initializers.Zeros())
    x = layers.GlobalAveragePooling2D()(conv(x))
    conv.set_weights([np.array([[[[1, 0], [-1, 0], [0, 1]]]], np.float32), np.zeros(2)])
    backbone = keras.Model(photo, x, name="backbone")
    weights = strength * np.array([[1.0], [0.0]], np.float32)
    if classes:
        kernel, bias = np.hstack([weights, -weights]), np.zeros(2, np.float32)
        return build_classifier(backbone, LinearHead(("fox", "wolf"), np.array([True, False]), kernel, bias, 1.0))
    image = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    answer = layers.Dense(1, activation="sigmoid", name="answer")
    model = keras.Model(image, answer(backbone(image)))
    answer.set_weights([weights, np.zeros(1)])
    return model


def test_heat_lies_where_the_answer_comes_from(images: np.ndarray) -> None:
    heat = explanation.grad_cam(looks_at(RIGHT), images)
    assert heat.shape == images.shape[:3]
    assert heat.dtype == np.float32
    assert heat.min() == 0
    assert (heat.max(axis=(1, 2)) == 1).all()
    assert (heat[RIGHT] > 0).all()
    heat[RIGHT] = 0
    assert (heat == 0).all()


def test_nothing_speaks_for_the_animal_where_all_speaks_against_it(images: np.ndarray) -> None:
    assert (explanation.grad_cam(looks_at(RIGHT, strength=-1e-3), images) == 0).all()


@pytest.mark.parametrize("classes", [False, True])
def test_for_averaged_maps_it_is_class_activation_mapping(images: np.ndarray, classes: bool) -> None:
    images[..., 1] //= 2
    red = np.maximum(images[..., 0].astype(float) - images[..., 1], 0)
    expected = red / red.max(axis=(1, 2), keepdims=True)
    for strength in (1, 100):  # the second makes every probability exactly 1
        model = averages_red(strength, classes)
        assert np.allclose(explanation.grad_cam(model, images), expected, atol=1e-5)
    assert (model.predict(images, verbose=0) == 1).all()


@pytest.mark.parametrize(("weight", "right"), [(0.5, 0.5), (0.25, 0.25)])
def test_in_an_average_every_member_counts_by_its_weight(
    images: np.ndarray, tmp_path: Path, weight: float, right: float
) -> None:
    images[:] = 200
    both = build_average([looks_at(LEFT, "one", 2e-3), looks_at(RIGHT, "other", 1e-3)], [0.5, weight])
    both.save(tmp_path / "both.keras")
    heat = explanation.grad_cam(keras.models.load_model(tmp_path / "both.keras"), images)
    assert np.allclose(heat[LEFT], 1)
    assert np.allclose(heat[RIGHT], right)
    assert np.isclose(heat.sum(), heat[LEFT].sum() + heat[RIGHT].sum())


def test_photos_in_several_batches_are_explained_one_by_one(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_baseline(SIDE)
    whole = explanation.grad_cam(model, images)
    monkeypatch.setattr(explanation, "BATCH", 2)
    assert np.allclose(explanation.grad_cam(model, images), whole, atol=1e-6)
    assert explanation.grad_cam(model, images[:0]).shape == (0, SIDE, SIDE)


def test_the_model_stays_as_it_was(images: np.ndarray) -> None:
    model = averages_red(1, classes=True)
    before = model.predict(images, verbose=0)
    explanation.grad_cam(model, images, layer="colours")
    explanation.feature_maps(model, images)
    assert (model.predict(images, verbose=0) == before).all()
    assert model.get_layer("backbone").get_layer("colours").output is not None


def test_what_can_not_be_explained_says_so(images: np.ndarray) -> None:
    with pytest.raises(ParameterError, match=r"one of bright; received 'answer'"):
        explanation.grad_cam(looks_at(LEFT), images, layer="answer")
    photo = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = layers.Flatten()(layers.Conv2D(1, 3)(layers.Rescaling(1 / 255)(photo)))
    with pytest.raises(ParameterError, match=r"received 'lengths', a Dense with activation 'relu'"):
        explanation.grad_cam(keras.Model(photo, layers.Dense(1, activation="relu", name="lengths")(x)), images)
    with pytest.raises(ParameterError, match="has none"):
        explanation.first_filters(keras.Model(photo, layers.Flatten()(photo)))


def test_feature_maps_are_the_last_of_each_size(images: np.ndarray) -> None:
    model = build_baseline(SIDE)
    maps = explanation.feature_maps(model, images)
    names = [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D | layers.MaxPooling2D)]
    assert list(maps) == names
    expected = keras.Model(model.input, [model.get_layer(name).output for name in names])(images, training=False)
    for values, same in zip(maps.values(), expected, strict=True):
        assert np.allclose(values, same, atol=1e-6)


def test_first_filters_are_found_within_networks() -> None:
    model = build_baseline(SIDE)
    kernels = explanation.first_filters(model)
    assert kernels.shape == (5, 5, 3, 32)
    assert (kernels == next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).kernel.numpy()).all()
    assert explanation.first_filters(averages_red(1, classes=True)).shape == (1, 1, 3, 2)


def test_a_tuned_network_with_its_histogram_of_colours_is_explained() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, hypermodel.SIDE, hypermodel.SIDE, 3), dtype=np.uint8)
    network = hypermodel.build(hypermodel.START[0], 0, epochs=1, steps=1)
    maps = explanation.feature_maps(network, photos)
    assert all(shown.shape[1] == shown.shape[2] for shown in maps.values())
    assert [shown.shape[1] for shown in maps.values()] == sorted({shown.shape[1] for shown in maps.values()})[::-1]
    assert explanation.grad_cam(network, photos).shape == (2, hypermodel.SIDE, hypermodel.SIDE)
    assert explanation.first_filters(network).shape[2] == 3
