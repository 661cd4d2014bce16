"""The GAN's training: it survives being killed, and gives the last weights that are as near as any to unseen photos."""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
import pandas as pd
from PIL import Image

from ml import devices, progress
from ml.analysis import generative
from ml.data.files import replacing
from ml.errors import DataError
from ml.figures import generated
from ml.figures.sheets import contact_sheet
from ml.models import gan
from ml.models.backbones import build_backbone
from ml.models.dcgan import DCGAN
from ml.models.gan import GAN
from ml.models.imle import IMLE
from ml.params import RecipeName
from ml.results import StageResult
from ml.stages import crops
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import StageRun

STAGE, GENERATOR = "gan", "generator.keras"
CHECKPOINT, SAMPLES = "checkpoint.npz", "samples"
RECIPES: Mapping[RecipeName, type[GAN]] = {"imle": IMLE, "dcgan": DCGAN}
JUDGE, JUDGED_AT = "EfficientNetLite2", 128
EVERY = 100
"""Steps between two looks: KID, samples, a checkpoint."""
JUDGED, SHOWN, COLUMNS = 256, 24, 6
"""Pictures that a look judges, and how many of them it shows, in how many columns."""
LATENTS_SEED = 20
SILENT = 55.0
"""Seconds of training between two lines of the log at least."""
FEWEST_HELD_OUT = 3
FRAMES, MOMENTS = 60, 8
FRAME = 300
"""Milliseconds that the film shows each of its frames."""

log = logging.getLogger(__name__)


@dataclass
class Done:
    """How far a training is."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    """As of `chosen`."""
    points: list[dict[str, float]] = field(default_factory=list)
    """What each look found, by its name as a metric."""


def run(job: GanJob, every: int = EVERY) -> StageResult:
    """Train on the crops of this DAG run, look every so many steps, and keep the best generator with the run.

    Raises:
        DataError: too few photos are held out to judge by.
    """
    given = crops.of(job)
    if len(given.held_out) < FEWEST_HELD_OUT:
        raise DataError(
            f"Expected at least {FEWEST_HELD_OUT} photos of {job.animal} in the fold that the GAN is judged on. "
            f"Received: {len(given.held_out)}. Add photos: five times as many in all."
        )
    params = job.params
    choices = {**params.model_dump(include={"recipe", "size", "minutes", "steps", "seed"}), "crops": crops.key(job)}

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        recipe = RECIPES[params.recipe]
        with devices.given(job.settings.gpus, recipe.rows).unscaled().scope():
            model = recipe(given.training, params.size, params.seed)
        budget = Budget(params.steps, params.minutes)
        done = train(model, Judge(given.held_out), checkpoints, budget, every, partial(_log, stage))
        return _keep(stage, checkpoints, model, done, job.animal)

    return perform(job, STAGE, choices, work)


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
        if chosen(done.points) == done.step:
            best, done.best_step = model.averaged.get_weights(), done.step
        with replacing(_samples(checkpoints, done.step)) as aside:
            Image.fromarray(generated.tiles(drawn[:SHOWN], COLUMNS)).save(aside)
        report(point, done.step, _samples(checkpoints, done.step))
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
    except FileNotFoundError:
        return Done(), model.averaged.get_weights()
    except (BadZipFile, ValueError, EOFError, OSError) as error:
        log.warning("The checkpoint %s is damaged (%s): the training starts anew.", file, error)
        return Done(), model.averaged.get_weights()
    done = Done(**json.loads(str(state["done"])))
    model.restore(state)
    log.info("goes on after step %d of an earlier try", done.step)
    return done, [state[f"best_{place:04d}"] for place in range(len(model.averaged.weights))]


def _save(checkpoints: Path, model: GAN, done: Done, best: list[np.ndarray]) -> None:
    kept = model.state() | {f"best_{place:04d}": weights for place, weights in enumerate(best)}
    kept["done"] = np.array(json.dumps(asdict(done)))
    with replacing(checkpoints / CHECKPOINT) as aside:
        np.savez(aside, allow_pickle=False, **kept)


def _log(stage: StageRun, point: Mapping[str, float], step: int, sheet: Path) -> None:
    stage.points({f"training/{name}": value for name, value in point.items()}, step)
    stage.file(sheet, SAMPLES)


def _samples(checkpoints: Path, step: int) -> Path:
    return checkpoints / SAMPLES / f"step_{step:06d}.png"


def _keep(stage: StageRun, checkpoints: Path, model: GAN, done: Done, animal: str) -> Findings:
    """Keep pictures, curves and, last, the best generator."""
    points = pd.DataFrame(done.points)
    sheets = [np.asarray(Image.open(_samples(checkpoints, step))) for step in points.step.astype(int)]
    stage.table("looks", points)
    stage.figure("gan_curves", generated.gan_curves(points, done.best_step, animal))
    moments = _evenly(len(points), MOMENTS)
    rows = [_cut(sheets[place], model.size) for place in moments]
    stage.figure(
        "samples_over_time", generated.samples_over_time([int(points.step[place]) for place in moments], rows, animal)
    )
    drawn = gan.draw(model.averaged, gan.latents(SHOWN, LATENTS_SEED))
    title = f"What the {animal} GAN draws after {done.best_step:,} steps: not chosen"
    stage.figure("samples", contact_sheet(list(drawn), [""] * SHOWN, title, COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "samples.gif")
        first, *others = [Image.fromarray(sheets[place]) for place in _evenly(len(sheets), FRAMES)]
        first.save(film, save_all=True, append_images=others, duration=FRAME, loop=0)
        stage.file(film, SAMPLES)
        file = Path(folder, GENERATOR)
        gan.exported(model.averaged).save(file)
        stage.file(file, "")
    best = points[points.step == done.best_step].iloc[0]
    metrics = {name: float(best[name]) for name in ("kid", "kid_low", "kid_high")}
    metrics |= {"steps": float(done.step), "best_step": float(done.best_step), "minutes": done.seconds / 60}
    metrics["pictures_per_second"] = float(points.pictures_per_second.mean())
    return Findings(
        f"KID {best.kid:.3g} ({best.kid_low:.3g} to {best.kid_high:.3g}) after {done.best_step:,} of {done.step:,}"
        f" steps in {metrics['minutes']:.1f} minutes",
        metrics,
    )


def _evenly(n: int, most: int) -> list[int]:
    """Return at most `most` of the places 0 to n - 1, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def _cut(sheet: np.ndarray, size: int) -> np.ndarray:
    """Return the pictures [N, size, size, 3] of a sheet."""
    rows, columns = sheet.shape[0] // size, sheet.shape[1] // size
    return sheet.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)


def _numbers(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in point.items())
