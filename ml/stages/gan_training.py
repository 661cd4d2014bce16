"""A GAN's training: it survives being killed, and gives the last weights that are as near as any to unseen photos."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
from PIL import Image

from ml import progress
from ml.analysis import generative
from ml.data.files import replacing
from ml.figures import generated
from ml.models import gan
from ml.models.backbones import build_backbone
from ml.models.gan import GAN

CHECKPOINT, SAMPLES = "checkpoint.npz", "samples"
JUDGE, JUDGED_AT = "EfficientNetLite2", 128
FEWEST_HELD_OUT = 3
EVERY = 100
"""Steps between two looks: KID, samples, a checkpoint."""
JUDGED, SHOWN, COLUMNS = 256, 24, 6
"""Pictures that a look judges, and how many of them it shows, in how many columns."""
LATENTS_SEED = 20
SILENT = 55.0
"""Seconds of training between two lines of the log at least."""

log = logging.getLogger(__name__)


@dataclass
class Done:
    """How far a training is."""

    step: int = 0
    seconds: float = 0.0
    points: list[dict[str, float]] = field(default_factory=list)
    """What each look found, by its name as a metric."""

    @property
    def best_step(self) -> int:
        """Return the step whose weights are kept: see `chosen`."""
        return int(chosen(self.points))


@dataclass(frozen=True)
class Budget:
    """Where a training ends: after so many steps or minutes, whichever is first; at least one is given."""

    steps: int | None = None
    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic

    def over(self, step: int, seconds: float) -> bool:
        return self.spent(step, seconds) >= 1

    def spent(self, step: int, seconds: float) -> float:
        """Return the share that is spent."""
        return max(step / self.steps if self.steps else 0, seconds / 60 / self.minutes if self.minutes else 0)


class Judge:
    """Tells how far generated pictures are from photos that were not trained on."""

    def __init__(self, held_out: np.ndarray, network: str = JUDGE) -> None:
        self._network = build_backbone(network)
        self._held_out = self.features(held_out)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """Return the features of pictures uint8 [N, S, S, 3], float32 [N, D]."""
        parts = []
        for start in range(0, len(pictures), gan.CHUNK):
            chunk = pictures[start : start + gan.CHUNK].astype(np.float32)
            parts.append(self._network.predict_on_batch(keras.ops.image.resize(chunk, (JUDGED_AT, JUDGED_AT))))
        return np.concatenate(parts)

    def distance(self, pictures: np.ndarray) -> generative.KernelDistance:
        return generative.kernel_distance(self._held_out, self.features(pictures))


def train(
    model: GAN,
    judge: Judge,
    checkpoints: Path,
    budget: Budget,
    every: int = EVERY,
    report: Callable[[Mapping[str, float], int, Path], None] = lambda point, step, sheet: None,
) -> Done:
    """Train until the budget is spent, from the last checkpoint on if there is one; leave the best average in `model`.

    After each look `report` is told what it found, after which step, and where its contact sheet is.
    """
    done, best = _restored(checkpoints, model)
    latents = gan.latents(JUDGED, LATENTS_SEED)
    started, silent_until = budget.clock() - done.seconds, 0.0
    while not budget.over(done.step, done.seconds):
        losses, before, since, pictures = [], done.seconds, done.step, 0
        while not budget.over(done.step, done.seconds) and (done.step == since or done.step % every):
            spent = budget.spent(done.step, done.seconds)
            pictures += model.pictures(done.step, spent)
            losses.append(model.train(done.step, spent))
            done.step, done.seconds = done.step + 1, budget.clock() - started
            progress.tell("percent", min(100, round(100 * budget.spent(done.step, done.seconds))), 100, **losses[-1])

        drawn = gan.draw(model.averaged, latents)
        distance = judge.distance(drawn)
        point = {name: float(np.mean([loss[name] for loss in losses if name in loss])) for name in losses[-1]}
        point |= {"kid": distance.value, "kid_low": distance.low, "kid_high": distance.high}
        point["pictures_per_second"] = pictures / max(done.seconds - before, 1e-9)
        done.points.append({"step": done.step, **point})
        if done.best_step == done.step:
            best = model.averaged.get_weights()
        with replacing(sheet_of(checkpoints, done.step)) as aside:
            Image.fromarray(generated.tiles(drawn[:SHOWN], COLUMNS)).save(aside)
        report(point, done.step, sheet_of(checkpoints, done.step))
        if done.seconds >= silent_until or budget.over(done.step, done.seconds):
            log.info("step %d, %.1f minutes: %s", done.step, done.seconds / 60, _numbers(point))
            silent_until = done.seconds + SILENT
        done.seconds = budget.clock() - started
        _save(checkpoints, model, done, best)
    model.averaged.set_weights(best)
    return done


def chosen(points: Sequence[Mapping[str, float]]) -> float:
    """Return the step of the last look whose KID is within about one standard error (half the way to the bound of its
    interval) of the lowest.

    On few photos KID hardly tells one late look from another, and what was trained for longer is more diverse.
    """
    lowest = min(points, key=lambda point: point["kid"])
    as_good = (lowest["kid"] + lowest["kid_high"]) / 2
    return max(point["step"] for point in points if point["kid"] <= as_good)


def _restored(checkpoints: Path, model: GAN) -> tuple[Done, list[np.ndarray]]:
    """Return how far an earlier try came and its best weights, and put `model` there; or the beginning."""
    file = checkpoints / CHECKPOINT
    try:
        with np.load(file) as kept:
            state = {name: kept[name] for name in kept.files}
        done = Done(**json.loads(str(state["done"])))
        best = [state[f"best_{place:04d}"] for place in range(len(model.averaged.weights))]
        model.restore(state)
    except FileNotFoundError:
        return Done(), model.averaged.get_weights()
    except (BadZipFile, ValueError, TypeError, KeyError, EOFError, OSError) as error:
        log.warning("The checkpoint %s is damaged or of another version (%s): the training starts anew.", file, error)
        return Done(), model.averaged.get_weights()
    log.info("goes on after step %d of an earlier try", done.step)
    return done, best


def _save(checkpoints: Path, model: GAN, done: Done, best: list[np.ndarray]) -> None:
    kept = model.state() | {f"best_{place:04d}": weights for place, weights in enumerate(best)}
    kept["done"] = np.array(json.dumps(asdict(done)))
    with replacing(checkpoints / CHECKPOINT) as aside:
        np.savez(aside, allow_pickle=False, **kept)


def sheet_of(checkpoints: Path, step: int) -> Path:
    """Return where the contact sheet of a look is."""
    return checkpoints / SAMPLES / f"step_{step:06d}.png"


def _numbers(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in point.items())
