"""What a network looks at: Grad-CAM, feature maps and first filters of a Keras classifier of one animal.

Photos [N, H, W, 3] go in; it ends in a sigmoid, or in the sum of some classes of a softmax, as that of
`ml.models.head.build_classifier`. Networks within the network are looked into. All maps have the channels last.
"""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from ml.errors import ParameterError

Floats = NDArray[np.float32]
Photos = NDArray[np.uint8]

BATCH = 16
TINY = 1e-30


def grad_cam(model: keras.Model, images: Photos, layer: str | None = None) -> Floats:
    """Where in each photo the network finds the animal: uint8 [N, H, W, 3] -> float32 [N, H, W], 0 to 1.

    Grad-CAM (Selvaraju et al., ICCV 2017, section 3) of the log-odds of the animal, on the map of `layer` (default: the
    last map), with each gradient where it is instead of their average (HiResCAM: Draelos & Carin 2020). Where maps are
    averaged the two are the same; where they are flattened only the latter shows the places that count. In an average
    of classifiers each counts by its weight. The strongest place of each photo is 1; a photo is all 0 where nothing
    speaks for the animal.

    Raises `ParameterError` for a layer that has no map, or a network that ends otherwise.
    """
    evidence = [weight * _evidence(member, images, layer) for member, weight in _members(model)]
    heat = np.maximum(np.sum(evidence, axis=0), 0)
    strongest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, strongest, out=np.zeros_like(heat), where=strongest > 0)


def feature_maps(model: keras.Model, images: Photos) -> dict[str, Floats]:
    """What the layers make of the photos: uint8 [N, H, W, 3] -> layer -> float32 [N, h, w, C], from first to last.

    Of each size there is the last map, the outcome of a block. Layers before the first weights, which prepare the
    photos, are left out.
    """
    network = _open(model, images.shape[1:])
    last_of_size = {tensor.shape[1:3]: name for name, tensor in network.maps.items()}
    shown = keras.Model(network.image, {name: network.maps[name] for name in last_of_size.values()})
    values = shown(ops.convert_to_tensor(images), training=False)
    return {name: ops.convert_to_numpy(values[name]) for name in last_of_size.values()}


def first_filters(model: keras.Model) -> Floats:
    """The kernels of the first convolution: float32 [k, k, 3, C].

    Raises `ParameterError` where there is none.
    """
    for layer in _layers(model):
        if isinstance(layer, layers.Conv2D):
            return ops.convert_to_numpy(layer.kernel)
    raise ParameterError(f"Expected a network with a convolution; {model.name!r} has none.")


class _Network(NamedTuple):
    """A copy of a classifier, all within reach: its input, the maps from the first weights on, and what it decides."""

    image: keras.KerasTensor
    maps: dict[str, keras.KerasTensor]
    log_odds: keras.KerasTensor


def _evidence(model: keras.Model, images: Photos, layer: str | None) -> Floats:
    """What each place adds to the log-odds, as far as they are linear in the map: float32 [N, H, W]."""
    network = _open(model, images.shape[1:])
    name = layer or next(reversed(network.maps), None)
    if name not in network.maps:
        raise ParameterError(f"Expected a layer with a map, one of {', '.join(network.maps)}; received {name!r}.")
    to_map = keras.Model(network.image, network.maps[name])
    # The photo goes in beside the map, since averages of earlier maps may count too.
    to_log_odds = keras.Model([network.image, network.maps[name]], network.log_odds)
    parts = [np.empty((0, *images.shape[1:3]), np.float32)]
    for start in range(0, len(images), BATCH):
        batch = ops.convert_to_tensor(images[start : start + BATCH])
        seen = to_map(batch, training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(seen)
            log_odds = to_log_odds([batch, seen], training=False)
        evidence = ops.sum(tape.gradient(log_odds, seen) * seen, axis=-1, keepdims=True)
        parts.append(ops.convert_to_numpy(ops.image.resize(evidence, images.shape[1:3]))[..., 0])
    return np.concatenate(parts)


def _members(model: keras.Model) -> list[tuple[keras.Model, float]]:
    """The classifiers within an average of them, with their weights; a classifier is its only member."""
    members = [part for part in model.layers if isinstance(part, keras.Model) and part.output_shape[1:] == (1,)]
    weights = [part.scale for part in model.layers if isinstance(part, layers.Rescaling)]
    return list(zip(members, weights, strict=True)) if members else [(model, 1.0)]


def _open(model: keras.Model, shape: tuple[int, ...]) -> _Network:
    image = keras.Input(shape, dtype=model.input.dtype)
    maps: dict[str, keras.KerasTensor] = {}

    def through(part: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Lay the layers of a part one by one, and return its output."""
        made = {}

        def lay(layer: layers.Layer | keras.Operation, *args: keras.KerasTensor, **kwargs: object) -> keras.KerasTensor:
            if isinstance(layer, keras.Model):
                output = through(layer, *args)
            elif part is model and layer.name == model.output_names[0]:
                output = _log_odds(layer, *args)
            else:
                output = _lay(layer.get_config(), layer, *args, **kwargs)
                prepares = isinstance(layer, layers.Rescaling) or not (maps or _weights(layer))
                # Bare operations count colours, where what has the photo's proportions may be no map of it.
                if isinstance(layer, layers.Layer) and _is_map(output, shape) and not prepares:
                    maps[layer.name if layer.name not in maps else f"{part.name}.{layer.name}"] = output
            made[layer.name] = output
            return output

        keras.models.clone_model(part, input_tensors=tensor, clone_function=lambda layer: layer, call_function=lay)
        return made[part.output_names[0]]

    return _Network(image, maps, log_odds=through(model, image))


def _lay(
    config: dict, layer: layers.Layer | keras.Operation, *args: keras.KerasTensor, **kwargs: object
) -> keras.KerasTensor:
    """The output of a copy of the layer, since the layer itself would remember that it was called once more."""
    copy = type(layer).from_config({**config, "name": None})
    output = copy(*args, **kwargs)
    if weights := _weights(layer):
        copy.set_weights(weights)
    return output


def _weights(layer: layers.Layer | keras.Operation) -> list[NDArray]:
    return layer.get_weights() if isinstance(layer, layers.Layer) else []


def _log_odds(last: layers.Layer, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """What the last layer decides, before it is squeezed into a probability, where sure photos have no slope left."""
    config = last.get_config()
    if config.get("activation") == "sigmoid":
        return _lay({**config, "activation": "linear"}, last, tensor)
    weights = last.get_weights()
    if isinstance(last, layers.Dense) and len(weights) == 1 and np.isin(weights[0], (0, 1)).all():
        positives, others = ops.matmul(tensor, weights[0]), ops.matmul(tensor, 1 - weights[0])
        return ops.log(positives + TINY) - ops.log(others + TINY)
    raise ParameterError(
        f"Expected a classifier that ends in a sigmoid or in a sum of classes; received {last.name!r},"
        f" a {type(last).__name__} with activation {config.get('activation')!r}."
    )


def _is_map(output: object, photo: tuple[int, ...]) -> bool:
    """Whether a layer gives a map of the photo, with its proportions; others have four axes too, or give a list."""
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 4 or output.shape[1:3] == (1, 1):
        return False
    height, width = output.shape[1:3]
    return abs(height * photo[1] - width * photo[0]) <= 2 * max(photo[:2])


def _layers(model: keras.Model) -> Iterator[layers.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)
