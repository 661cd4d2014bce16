"""Fits by configuration, epochs and folds left out: each is done once, whoever asks, and kept on disk."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout

from ml.data import store
from ml.data.files import replacing

log = logging.getLogger(__name__)

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
    """Fits by configuration, epochs and folds left out: each is done once, and kept on disk.

    Searches in several processes, or on several machines with this folder or a store in common, share them.
    """

    def __init__(self, folder: Path, fit: Callable[[Configuration, int, frozenset[int]], Fit]) -> None:
        self._folder, self._fit = folder, fit
        self._seconds: dict[Path, float] = {}
        self.asked = 0

    @property
    def seconds(self) -> float:
        """What all fits that were asked for took, whoever did them, in this try or an earlier one."""
        return sum(self._seconds.values())

    def __call__(self, configuration: Configuration, epochs: int, left_out: Sequence[frozenset[int]]) -> list[Fit]:
        """Return a fit for each set of folds to leave out.

        Those that another process is at come last: it is likely to have done them by then.
        """
        keys = [json.dumps([configuration, epochs, sorted(map(int, folds))], sort_keys=True) for folds in left_out]
        files = [self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz" for key in keys]
        for patience in (0, -1):
            for file, key, folds in zip(files, keys, left_out, strict=True):
                store.fetch(file)
                if self._kept(file):
                    continue
                self._folder.mkdir(parents=True, exist_ok=True)
                with suppress(Timeout), FileLock(file.with_suffix(".lock"), patience):
                    if not self._kept(file):
                        self._do(file, key, configuration, epochs, folds)
        return [self._read(file) for file in files]

    def _do(self, file: Path, key: str, configuration: Configuration, epochs: int, folds: frozenset[int]) -> None:
        started = time.monotonic()
        fit = self._fit(configuration, epochs, folds)
        said = json.dumps({"curves": fit.curves, "seconds": time.monotonic() - started, "key": key})
        with replacing(file) as aside:
            np.savez(aside, probabilities=fit.probabilities, said=np.array(said))

    def _kept(self, file: Path) -> bool:
        """Return whether a fit is kept; one that is damaged or of another version is removed, and so is done again."""
        try:
            if file not in self._seconds:  # else it was read before
                self._seconds[file] = _opened(file)[1]
        except FileNotFoundError:
            return False
        except (BadZipFile, ValueError, TypeError, KeyError, EOFError) as error:
            log.warning("%s is damaged or of another version (%s): it is fitted again", file, error)
            file.unlink(missing_ok=True)
            return False
        return True

    def _read(self, file: Path) -> Fit:
        fit, self._seconds[file] = _opened(file)
        self.asked += 1
        return fit


def _opened(file: Path) -> tuple[Fit, float]:
    """Return a fit, and the seconds that it took."""
    with np.load(file) as kept:
        said = json.loads(str(kept["said"]))
        return Fit(kept["probabilities"], said["curves"]), said["seconds"]
