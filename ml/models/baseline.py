"""The small network of one convolution that everything else has to beat."""

import keras
from keras import layers

SIDE = 64


def build_baseline(side: int = SIDE, learning_rate: float = 1e-3) -> keras.Model:
    """Return a compiled network: one convolution, one pooling, one dense layer of 100.

    Input: uint8 RGB [N, side, side, 3]; output: float32 [N, 1], the probability of the animal. While training, photos
    are mirrored and shifted at random.
    """
    photo = keras.Input((side, side, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, -1)(photo)
    x = layers.RandomFlip("horizontal", seed=0)(x)
    x = layers.RandomTranslation(0.1, 0.1, seed=1)(x)
    x = layers.Conv2D(32, 5, activation="relu", name="convolution")(x)
    x = layers.MaxPooling2D(name="pooling")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3, seed=2)(x)
    x = layers.Dense(100, activation="relu")(x)
    x = layers.Dropout(0.3, seed=3)(x)
    x = layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    model = keras.Model(photo, x, name="baseline")
    model.compile(keras.optimizers.Adam(learning_rate), "binary_crossentropy", metrics=["accuracy"])
    return model
