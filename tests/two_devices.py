"""The same trainings on one device and on two, both of them halves of this CPU.

Run as a program, since TensorFlow divides a CPU only before it computes: it prints how far the two are apart, as JSON.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ml import devices, training
from ml.devices import Devices
from ml.models import finetuning, gan, imle
from ml.models.dcgan import DCGAN
from ml.models.finetuning import Batches
from ml.models.gan import GAN
from ml.models.head import LinearHead, fit_head
from ml.models.imle import IMLE

CLASSES = np.repeat(["fox", "owl", "wolf"], 20)
TARGETS = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
SIZE, STEPS = 16, 4


def backbone() -> keras.Model:
    """Averages of two stages, with a shortcut and what stays frozen."""
    keras.utils.set_random_seed(0)
    image = layers.Input((None, None, 3), name="image")
    low = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="low")(image)
    wide = layers.Conv2D(8, 1, activation="relu", name="wide")(low)
    deep = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, padding="same", name="deep")(wide))
    top = layers.Add(name="top")([wide, layers.Activation("relu", name="active")(deep)])
    last = layers.Conv2D(16, 1, activation="relu", name="last")(top)
    averages = [layers.GlobalAveragePooling2D()(x) for x in (low, last)]
    return keras.Model(image, layers.Concatenate(name="features")(averages), name="small")


def images() -> np.ndarray:
    """Colours that tell the classes apart, in noise, float32 [60, 16, 16, 3]."""
    colours = np.repeat(np.eye(3), 20, axis=0)[:, None, None]
    return (60 * colours + np.random.default_rng(0).uniform(0, 150, (60, 16, 16, 3))).astype(np.float32)


def tune(on: Devices) -> tuple[keras.Model, keras.Model, LinearHead]:
    """Fine-tune on these devices, twice from the same start; return the backbone, the tuner and the tuned head."""
    network = backbone()
    features = network.predict_on_batch(images())
    head = fit_head(features, CLASSES, CLASSES == "fox", np.arange(60))
    lower, upper = finetuning.split(network, "low")
    rows = finetuning.pack(lower.predict_on_batch(images()))
    shapes, columns = finetuning.shapes_across(lower, 16, 16), np.arange(3)
    tuner = finetuning.build_tuner(
        upper, 3, learning_rate=3e-3, weight_decay=1e-4, label_smoothing=0.1, dropout=0.0, seed=0, on=on
    )
    beginning = training.FreshStart(tuner)
    for _ in range(2):
        beginning.restore()
        finetuning.start(tuner, head, columns, features)
        batches = Batches([rows], TARGETS, np.arange(60), shapes, batch_size=20, seed=0)
        watched = (finetuning.unpack(rows[:10], shapes), TARGETS[:10])
        tuner.fit(
            batches,
            epochs=5,
            callbacks=[finetuning.CosineRate(3e-3)],
            validation_data=watched,
            validation_batch_size=4,
            shuffle=False,  # Keras draws once more from Python's random numbers on several devices
            verbose=0,
        )
    finetuning.hand_over(tuner, upper)
    return network, tuner, finetuning.tuned_head(tuner, head, columns, odds=0.5)


def apart(one: Sequence[np.ndarray], other: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> float:
    """Return how far one's weights are from the other's, as a share of how far both came."""
    apart, came = (
        sum(float(((a - b) ** 2).sum()) for a, b in zip(ours, theirs, strict=True))
        for ours, theirs in ((one, other), (one, before))
    )
    return float(np.sqrt(apart / came))


def tuned_apart(two: Devices) -> dict[str, Any]:
    (one, alone, head), (other, together, other_head) = tune(devices.default()), tune(two)
    losses = [tuner.history.history["val_loss"][-1] for tuner in (alone, together)]
    return {
        "weights": apart(one.get_weights(), other.get_weights(), backbone().get_weights()),
        "head": float(np.abs(head.kernel - other_head.kernel).max() / np.abs(head.kernel).max()),
        "losses": losses,
        "mirrored": together.distribute_strategy.num_replicas_in_sync,
        "plain": other.distribute_strategy.num_replicas_in_sync,
    }


def drawn_apart(two: Devices, make: Callable[[], GAN]) -> dict[str, Any]:
    """Train a GAN on one device and on two; go on with the one's state on the two."""
    one = make()
    before = one.generator.get_weights()
    with two.scope():
        other = make()
    losses = [[model.train(step) for step in range(STEPS)] for model in (one, other)]
    drawn = [gan.draw(model.averaged, gan.latents(5, 0)).astype(int) for model in (one, other)]
    found = {
        "weights": apart(one.generator.get_weights(), other.generator.get_weights(), before),
        "losses": losses,
        "drawn": int(np.abs(drawn[0] - drawn[1]).max()),
        "mirrored": other.distribute_strategy.num_replicas_in_sync,
    }
    state = {name: array.copy() for name, array in one.state().items()}
    other.restore(state)
    found["restored"] = all(np.array_equal(array, state[name]) for name, array in other.state().items())
    return found | {"goes_on": [model.train(STEPS) for model in (one, other)]}


def pyramid(size: int) -> keras.Model:
    """Four maps of random convolutions: what stands for a pretrained network, and is built in no time."""
    x = pictures = layers.Input((size, size, 3))
    maps = [x := layers.Conv2D(8, 3, strides, "same", activation="relu")(x) for strides in (4, 2, 2, 2)]
    return keras.Model(pictures, maps, trainable=False)


def main() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    # Photos are matched once, at the start: after a step, a rounding may match one to another latent.
    imle.CANDIDATES, imle.RAMP, imle.projected.build_pyramid = 32, (0, 2), pyramid
    crops = np.random.default_rng(0).integers(0, 256, (6, 38, 38, 3), np.uint8)
    found = {
        "finetune": tuned_apart(two),
        "imle": drawn_apart(two, lambda: IMLE(crops, SIZE, 0, width=8)),
        "dcgan": drawn_apart(two, lambda: DCGAN(crops, SIZE, 0, width=4)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
