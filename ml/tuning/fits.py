"""Fits by configuration, epochs and folds left out: each is done once, and kept on disk."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.data.files import replacing

Configuration = dict[str, Any]
"""A value for every hyper-parameter of the space, plain JSON."""


@dataclass(frozen=True)
class Fit:
    """What one fit gave."""

    probabilities: np.ndarray
    """Probabilities of the animal, float32 [N]; NaN for photos that this fit wasn't asked about."""
    curves: dict[str, list[float]]
    """One value an epoch for each curve."""


class Fits:
    """Fits by configuration, epochs and folds left out: each is done once, and kept on disk."""

    def __init__(self, folder: Path, fit: Callable[[Configuration, int, frozenset[int]], Fit]) -> None:
        self._folder, self._fit = folder, fit
        self._seconds: dict[Path, float] = {}
        self.asked = 0

    @property
    def done(self) -> int:
        """How many fits all questions so far took."""
        return len(self._seconds)

    @property
    def seconds(self) -> float:
        """What they took, in this try or an earlier one."""
        return sum(self._seconds.values())

    def __call__(self, configuration: Configuration, epochs: int, left_out: frozenset[int]) -> Fit:
        key = json.dumps([configuration, epochs, sorted(map(int, left_out))], sort_keys=True)
        file = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if not file.exists():
            started = time.monotonic()
            fit = self._fit(configuration, epochs, left_out)
            said = json.dumps({"curves": fit.curves, "seconds": time.monotonic() - started, "key": key})
            with replacing(file) as aside:
                np.savez(aside, probabilities=fit.probabilities, said=np.array(said))
        with np.load(file) as kept:
            said = json.loads(str(kept["said"]))
            self.asked += 1
            self._seconds[file] = said["seconds"]
            return Fit(kept["probabilities"], said["curves"])
