import keras
import numpy as np
from keras import layers

from ml.models.baseline import SIDE, build_baseline
from ml.models.complexity import multiply_adds


def test_takes_uint8_photos_and_returns_probabilities() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    model = build_baseline()
    answers = model.predict(photos, verbose=0)
    assert answers.shape == (3, 1)
    assert answers.dtype == np.float32
    assert ((answers >= 0) & (answers <= 1)).all()
    assert sum(isinstance(layer, layers.Conv2D) for layer in model.layers) == 1


def test_learns_what_is_plain_to_see() -> None:
    keras.utils.set_random_seed(0)
    photos = np.random.default_rng(0).integers(0, 100, (64, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(64) % 2
    photos[labels == 1, 20:40, :, 0] += 150
    model = build_baseline()
    model.fit(photos, labels, epochs=8, batch_size=8, verbose=0)
    assert ((model.predict(photos, verbose=0)[:, 0] >= 0.5) == labels).mean() >= 0.9


def test_multiply_adds_are_those_counted_by_hand() -> None:
    image = keras.Input((None, None, 4))
    x = layers.Conv2D(8, 3, padding="same")(image)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(5)(x))
    assert multiply_adds(model, 10, 20, channels=4) == (10 * 20 * 8 * 9 * 4 + 5 * 10 * 8 * 9 + 8 * 5) / 1e6
