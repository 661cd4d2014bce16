"""Folds: what each gave, kept so that a killed task doesn't do one twice."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ml import progress
from ml.data.files import remove, replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """What one fold of a cross-validation gave."""

    held_out: np.ndarray
    """Indices of the photos that it judged, int [K]."""
    probabilities: np.ndarray
    """Their probabilities of the animal, float32 [K]."""
    curves: dict[str, list[float]]
    """One value an epoch for each curve; empty where nothing was trained by epochs."""
    metrics: dict[str, float]
    unseen: np.ndarray | None = None
    """Probabilities by models that never saw the photo's class, float32 [K]; NaN, or `None` for all: not measured."""


def cross_validate(folds: Sequence[int], checkpoints: Path, judge: Callable[[int], Fold]) -> list[Fold]:
    """Return the outcome of every fold, judging only those that `checkpoints` doesn't hold from a killed try."""
    outcomes = []
    for number, fold in enumerate(folds, start=1):
        file = checkpoints / f"fold-{fold}.npz"
        outcome = _load(file)
        if outcome:
            log.info("fold %d of %d: taken from the earlier try", number, len(folds))
        else:
            log.info("fold %d of %d", number, len(folds))
            with progress.part("fold", number, len(folds)):
                outcome = judge(fold)
                _save(file, outcome)
        outcomes.append(outcome)
    return outcomes


def forget(checkpoints: Path) -> None:
    """Remove the checkpoints of work that is done."""
    remove(checkpoints)


def pool(folds: Sequence[Fold], n_photos: int) -> np.ndarray:
    """Return the out-of-fold probabilities of all photos, float32 [n_photos]; NaN where no fold judged one."""
    pooled = np.full(n_photos, np.nan, np.float32)
    for fold in folds:
        pooled[fold.held_out] = fold.probabilities
    return pooled


def pool_unseen(folds: Sequence[Fold], n_photos: int) -> np.ndarray:
    """Return `Fold.unseen` of all photos, float32 [n_photos]; NaN where it isn't measured."""
    pooled = np.full(n_photos, np.nan, np.float32)
    for fold in folds:
        if fold.unseen is not None:
            pooled[fold.held_out] = fold.unseen
    return pooled


def _save(file: Path, fold: Fold) -> None:
    said = json.dumps({"curves": fold.curves, "metrics": fold.metrics})
    with replacing(file) as aside:
        unseen = np.full(len(fold.held_out), np.nan, np.float32) if fold.unseen is None else fold.unseen
        np.savez(aside, held_out=fold.held_out, probabilities=fold.probabilities, said=np.array(said), unseen=unseen)


def _load(file: Path) -> Fold | None:
    """Return what an earlier try kept; `None` if there is nothing, or it is damaged or of another version."""
    try:
        with np.load(file) as kept:
            said = json.loads(str(kept["said"]))
            return Fold(kept["held_out"], kept["probabilities"], said["curves"], said["metrics"], kept["unseen"])
    except FileNotFoundError:
        return None
    except (BadZipFile, ValueError, TypeError, KeyError, EOFError) as error:
        log.warning("%s is damaged or of another version (%s): the fold is computed again", file, error)
        return None
