"""Several networks as one that computes what they have in common once.

Champions stand on the same frozen backbones, so most of what they compute for a photo is the same. Two layers of the
same kind and configuration, with the same weights, called on the same tensor, give the same: the second is left out
(value numbering, as compilers do it: Cocke & Schwartz 1970). So whatever two networks share from the photo upwards is
found, be it a backbone, one of several in an average, or the part of it that fine-tuning left alone.
"""

import hashlib
import itertools
import json
from collections.abc import Hashable, Sequence
from typing import Any

import keras


def join(models: Sequence[keras.Model], inputs: Sequence[keras.KerasTensor]) -> keras.Model:
    """Return one network with the output of each of `models`, called on its `inputs`; those may be the same.

    The layers are those of `models`, for predicting only, and get new names: the models should not be used on. Inputs
    of the joint network: the distinct `inputs`, in their order; outputs: one a model, in theirs.
    """
    once = _Once()
    outputs = [once.call(model, tensor) for model, tensor in zip(models, inputs, strict=True)]
    return keras.Model(list({id(tensor): tensor for tensor in inputs}.values()), outputs, name="joint")


class _Once:
    """Calls layers, but none that would give what an earlier call gave."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}
        self._numbers = itertools.count()

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what `layer(*args, **kwargs)` gives; a network is called layer by layer."""
        if isinstance(layer, keras.Sequential):
            (result,) = args
            for part in layer.layers:
                result = self.call(part, result)
            return result
        if isinstance(layer, keras.Model):
            return self._run(layer, args[0])
        tensors = [part for part in keras.tree.flatten((args, kwargs)) if isinstance(part, keras.KerasTensor)]
        others = keras.tree.map_structure(
            lambda part: None if isinstance(part, keras.KerasTensor) else part, [args, kwargs]
        )
        key = (_value(layer), *map(id, tensors), repr(others))
        if key not in self._known:
            layer.name = f"{layer.name}_{next(self._numbers)}"  # in one network all names differ
            self._known[key] = layer(*args, **kwargs)
        return self._known[key]

    def _run(self, model: keras.Model, given: Any) -> Any:
        given = keras.tree.map_structure(self._cast, given, model.input)
        # What Keras runs its networks by. The public way, `clone_model`, refuses tensors that are no network's input.
        return model._run_through_graph(given, call_fn=self.call)

    def _cast(self, tensor: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
        """A network turns what it is given into the type that it takes."""
        if tensor.dtype == like.dtype:
            return tensor
        key = (id(tensor), like.dtype)
        if key not in self._known:
            self._known[key] = keras.ops.cast(tensor, like.dtype)
        return self._known[key]


def _value(layer: Any) -> Hashable:
    """What tells whether two layers do the same: kind, configuration and weights; else the layer itself."""
    if not isinstance(layer, keras.Layer):
        return id(layer)
    config = {name: value for name, value in layer.get_config().items() if name not in ("name", "trainable")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode())
    for weights in layer.get_weights():
        digest.update(f"{weights.dtype}{weights.shape}".encode())
        digest.update(weights.tobytes())
    return type(layer), digest.digest()
