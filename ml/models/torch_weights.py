"""State dicts that PyTorch wrote before its version 1.6, read without PyTorch."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Weights = dict[str, NDArray[Any]]


def read_torch_weights(path: Path) -> Weights:
    """The arrays of a state dict that `torch.save` wrote before version 1.6 (`_legacy_load`, torch/serialization.py).

    The layout: three pickles (magic number, protocol, system), the state dict, the names of the storages, then each
    storage as its length in eight bytes and its raw values.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        storages = {}
        for key in _Unpickler(file).load():
            (length,) = np.fromfile(file, "<i8", 1)
            storages[key] = np.fromfile(file, unpickler.dtypes[key], length)
    return {
        name: as_strided(storages[storage][offset:], shape, [step * storages[storage].itemsize for step in strides])
        for name, (storage, offset, shape, strides) in tensors.items()
    }


class _Tensor(NamedTuple):
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows the four names that a state dict needs, and nothing that could run code."""

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _Tensor(*parts[:4]),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"a state dict doesn't need {module}.{name}") from None

    def persistent_load(self, reference: tuple[str, str, str, str, int, None]) -> str:
        _, dtype, key, *_ = reference
        self.dtypes[key] = dtype
        return key
