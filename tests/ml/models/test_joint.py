from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers

from ml.models.average import build_average
from ml.models.joint import join

SIDE = 12


def backbone(seed: int = 0, tuned: bool = False) -> keras.Model:
    """Two convolutions; `tuned` changes the upper one."""
    keras.utils.set_random_seed(seed)
    image = layers.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scaled")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="lower")(x)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", name="upper")(x)])
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="backbone")
    if tuned:
        upper = model.get_layer("upper")
        upper.set_weights([1.1 * weights for weights in upper.get_weights()])
    return model


def classifier(trunk: keras.Model, seed: int) -> keras.Model:
    image = layers.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    kernel = keras.initializers.RandomNormal(seed=seed)
    return keras.Model(
        image,
        layers.Dense(1, "sigmoid", kernel_initializer=kernel, name="probability")(trunk(image)),
        name="classifier",
    )


def photo_input(side: int = SIDE) -> keras.KerasTensor:
    return layers.Input((side, side, 3), dtype="uint8")


@pytest.fixture
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


def count(model: keras.Model) -> Counter:
    return Counter(type(layer).__name__ for layer in model.layers)


def says_the_same(models: list[keras.Model], joint: keras.Model, expected: list[np.ndarray], given: list) -> bool:
    said = joint.predict_on_batch(given)
    return all(np.array_equal(one, other) for one, other in zip(said, expected, strict=True)) and len(said) == len(
        models
    )


def test_one_backbone_for_all_heads(photos: np.ndarray) -> None:
    models = [classifier(backbone(), seed) for seed in range(3)] + [backbone()]
    expected = [model.predict_on_batch(photos) for model in models]
    joint = join(models, [photo_input()] * 4)
    assert says_the_same(models, joint, expected, [photos])
    assert count(joint)["Conv2D"] == 2
    assert count(joint)["Dense"] == 3


def test_the_same_head_is_one_too_and_other_weights_are_not(photos: np.ndarray) -> None:
    models = [classifier(backbone(), 1), classifier(backbone(), 1), classifier(backbone(seed=9), 1)]
    expected = [model.predict_on_batch(photos) for model in models]
    joint = join(models, [photo_input()] * 3)
    assert says_the_same(models, joint, expected, [photos])
    assert count(joint)["Conv2D"] == 4
    assert count(joint)["Dense"] == 2


def test_averages_share_with_each_other_and_fine_tuning_shares_what_it_left_alone(photos: np.ndarray) -> None:
    tuned = classifier(backbone(tuned=True), 5)
    tuned.name = "tuned"
    average = build_average([classifier(backbone(), 2), tuned], [0.7, 0.7])
    models = [average, classifier(backbone(), 3)]
    expected = [model.predict_on_batch(photos) for model in models]
    joint = join(models, [photo_input()] * 2)
    assert says_the_same(models, joint, expected, [photos])
    assert sorted(layer.name.split("_")[0] for layer in joint.layers if "Conv2D" in str(type(layer))) == [
        "lower",
        "upper",
        "upper",
    ]


def test_photos_of_another_size_are_another_input(photos: np.ndarray) -> None:
    small = keras.Sequential([photo_input(6), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(1)])
    models = [classifier(backbone(), 1), small]
    expected = [models[0].predict_on_batch(photos), small.predict_on_batch(photos[:, :6, :6])]
    joint = join(models, [photo_input(), photo_input(6)])
    assert says_the_same(models, joint, expected, [photos, photos[:, :6, :6]])


def test_the_same_layers_on_other_photos_are_computed_twice(photos: np.ndarray) -> None:
    models = [classifier(backbone(), 1), classifier(backbone(), 1)]
    expected = [models[0].predict_on_batch(photos), models[1].predict_on_batch(photos[::-1])]
    joint = join(models, [photo_input(), photo_input()])
    assert says_the_same(models, joint, expected, [photos, photos[::-1]])
