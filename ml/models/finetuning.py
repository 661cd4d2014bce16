"""Fine-tuning of a network's upper half on what crosses the cut: no photo passes the frozen lower half twice.

The upper half starts as it was pretrained, and the softmax on it as the linear head that the frozen features give
(linear probing, then fine-tuning: Kumar et al. 2022, "Fine-tuning can distort pretrained features"), so a few epochs
are enough. Batch normalisation stays as it was pretrained, and so do depthwise kernels: few of the weights, but half of
the time that a step takes on a CPU.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from ml import devices
from ml.devices import Devices
from ml.errors import ParameterError
from ml.models.fused import FusedAdamW
from ml.models.head import LinearHead

Floats = NDArray[np.floating]
Rows = Sequence[NDArray[np.floating]]

FROZEN = (layers.BatchNormalization, layers.DepthwiseConv2D)
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
LAST = 0.01
"""What the learning rate falls to, as a share of its highest."""
STANDARD, CLASSES = "standard", "classes"


class Halves(NamedTuple):
    """A backbone in two; the layers are the backbone's own, so what `upper` learns, the backbone knows.

    Attributes:
        lower: images -> the list of what crosses the cut: the map of the layer, then whatever goes past it.
        upper: that list -> features [N, D].
    """

    lower: keras.Model
    upper: keras.Model


def split(backbone: keras.Model, layer: str) -> Halves:
    """Cut a backbone above the layer of this name; raises `ParameterError` if it has none."""
    by_name = {one.name: one for one in backbone.layers}
    if layer not in by_name:
        raise ParameterError(f"{backbone.name} can't be cut at {layer!r}. Expected one of: {', '.join(by_name)}.")
    crossing = [by_name[layer].output]
    above = {id(crossing[0])}
    for one in backbone.layers:  # in the order in which they are computed
        inputs = one.input if isinstance(one.input, list) else [one.input]
        if any(id(tensor) in above for tensor in inputs):
            above.add(id(one.output))
            known = above | {id(tensor) for tensor in crossing}
            crossing += [tensor for tensor in inputs if id(tensor) not in known]
    upper = keras.Model(crossing, backbone.output, name=f"{backbone.name}_above_{layer}")
    return Halves(keras.Model(backbone.input, crossing, name=f"{backbone.name}_to_{layer}"), upper)


def shapes_across(lower: keras.Model, height: int, width: int) -> list[tuple[int, ...]]:
    """The shapes, without N, of what crosses the cut for images of this size."""
    crossing = lower.compute_output_spec(keras.KerasTensor((1, height, width, 3)))
    return [tuple(part.shape[1:]) for part in keras.tree.flatten(crossing)]


def pack(crossing: Sequence[NDArray[np.floating]]) -> NDArray[np.float16]:
    """What crosses the cut, one row a photo: the arrays [N, ...] -> float16 [N, K], with half the bytes."""
    parts = keras.tree.flatten(crossing)  # Keras gives a list of one as that one
    flat = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    limit = float(np.finfo(np.float16).max)
    return np.clip(flat, -limit, limit).astype(np.float16)


def unpack(rows: NDArray[np.floating], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """The arrays that were packed, float32, from their `shapes` without N."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = np.split(rows, ends, axis=1)
    return [part.astype(np.float32).reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


class Batches(keras.utils.PyDataset):
    """Batches of what crossed the cut: a photo comes by another view each time, and at most once in an epoch.

    Args:
        views: for each view, the packed rows of all photos; they may lie in files.
        targets: float32 [N, C] of all photos, one a row where its class is.
        places: the photos that every epoch shows.
        shapes: of what crosses the cut, without N.
        multiple: every batch has a multiple of this many photos, as Keras needs on several devices; the few that are
            left over are other ones in each epoch.
        others: photos that take turns: an epoch shows the `n_others` of them that have waited longest.
    """

    def __init__(
        self,
        views: Sequence[Rows],
        targets: Floats,
        places: NDArray[np.integer],
        shapes: Sequence[tuple[int, ...]],
        batch_size: int,
        seed: int,
        multiple: int = 1,
        others: Sequence[int] | NDArray[np.integer] = (),
        n_others: int = 0,
    ) -> None:
        super().__init__()
        self._views, self._targets, self._shapes, self._batch_size = views, targets, shapes, batch_size
        self._random = np.random.default_rng(seed)
        self._seen = self._random.integers(len(views), size=len(targets))
        self._places, self._n_others = places, n_others
        self._waiting = self._random.permutation(np.asarray(others, int))
        self._shown = (len(places) + n_others) // multiple * multiple
        self._deal()

    def __len__(self) -> int:
        return math.ceil(self._shown / self._batch_size)

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[np.float32], ...], Floats]:
        chosen = self._order[: self._shown][index * self._batch_size : (index + 1) * self._batch_size]
        turns = self._seen[chosen] % len(self._views)
        rows = np.stack([self._views[view][place] for view, place in zip(turns, chosen, strict=True)])
        return tuple(unpack(rows, self._shapes)), self._targets[chosen]

    def on_epoch_end(self) -> None:
        self._seen[self._order] += 1
        self._deal()

    def _deal(self) -> None:
        turn = self._waiting[: self._n_others]
        self._waiting = np.roll(self._waiting, -len(turn))
        self._order = self._random.permutation(np.concatenate([self._places, turn]))


def build_tuner(
    upper: keras.Model,
    n_classes: int,
    *,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    dropout: float,
    seed: int,
    on: Devices | None = None,
) -> keras.Model:
    """The upper half and a softmax over the classes as one network to fit, compiled; on given devices, a copy of it.

    Input: what crosses the cut, a list. Output: logits [N, n_classes]. AdamW (Loshchilov & Hutter 2019) and label
    smoothing (Szegedy 2016, section 7). Set its head with `start`, fit it with the callback `CosineRate`, and let the
    upper half have what it learnt by `hand_over`.
    """
    on = on or devices.default()
    upper = on.copy(upper)
    upper.trainable = True
    for layer in upper.layers:
        if isinstance(layer, FROZEN):
            layer.trainable = False
    with on.scope():
        # A built-in layer that standardises by given values, with which all features learn at one pace. What comes
        # after the features is as precise as the weights: it costs nothing.
        exact = {"dtype": devices.FLOAT32}
        standard = layers.BatchNormalization(
            center=False, scale=False, epsilon=0, trainable=False, name=STANDARD, **exact
        )
        features = layers.Dropout(dropout, seed=seed, **exact)(standard(upper.output))
        model = keras.Model(upper.inputs, layers.Dense(n_classes, name=CLASSES, **exact)(features), name="tuner")
        model.compile(
            FusedAdamW(learning_rate, weight_decay=weight_decay),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing),
            metrics=["accuracy"],
        )
    return model


def hand_over(model: keras.Model, upper: keras.Model) -> None:
    """Give the upper half that a tuner was built of what the tuner's copy of it learnt."""
    for layer in upper.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())


class CosineRate(keras.callbacks.Callback):
    """Lets the learning rate rise to `highest` in a line, and fall by a cosine until the last batch of a fit."""

    def __init__(self, highest: float) -> None:
        super().__init__()
        self._highest, self._epoch = highest, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        steps = self.params["steps"]
        done = (self._epoch * steps + batch + 1) / (self.params["epochs"] * steps)
        falling = max(0.0, done - WARM_UP) / (1 - WARM_UP)
        share = LAST + (1 - LAST) * (1 + math.cos(math.pi * falling)) / 2
        self.model.optimizer.learning_rate = self._highest * min(done / WARM_UP, share)


def start(model: keras.Model, head: LinearHead, columns: NDArray[np.integer], features: Floats) -> None:
    """Let a tuner say what `head` says of the frozen `features` [N, D] of the photos to train on.

    `columns` are the places of the head's classes among the tuner's; the head may lack some.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.maximum(deviation, 1e-3 * deviation.mean())
    model.get_layer(STANDARD).set_weights([mean, deviation**2])
    kernel, bias = (np.zeros_like(weights) for weights in model.get_layer(CLASSES).get_weights())
    kernel[:, columns] = head.kernel * deviation[:, None]
    bias[columns] = head.bias + mean @ head.kernel
    model.get_layer(CLASSES).set_weights([kernel, bias])


def tuned_head(model: keras.Model, like: LinearHead, columns: NDArray[np.integer], odds: float) -> LinearHead:
    """The tuner's softmax as a head on the features of its upper half, made for animals as frequent as others.

    `odds` are those of the animal among the photos that the tuner was trained on: by so much the log-odds shift.
    Label smoothing leaves it too ready to say yes: see `ml.stages.balancing.balance`.
    """
    mean, variance = model.get_layer(STANDARD).get_weights()
    kernel, bias = model.get_layer(CLASSES).get_weights()
    kernel = kernel[:, columns] / np.sqrt(variance)[:, None]
    bias = bias[columns] - mean @ kernel - math.log(odds) * like.positive
    return LinearHead(like.classes, like.positive, kernel.astype(np.float32), bias.astype(np.float32), like.penalty)
