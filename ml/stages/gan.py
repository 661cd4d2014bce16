"""The GAN: trained on the crops, and kept with its pictures, its curves and a film of how it learnt."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ml import devices
from ml.errors import DataError
from ml.figures import generated
from ml.figures.sheets import contact_sheet
from ml.models import gan
from ml.models.dcgan import DCGAN
from ml.models.gan import GAN
from ml.models.imle import IMLE
from ml.params import RecipeName
from ml.results import StageResult
from ml.stages import crops
from ml.stages.gan_training import (
    COLUMNS,
    EVERY,
    FEWEST_HELD_OUT,
    LATENTS_SEED,
    SAMPLES,
    SHOWN,
    Budget,
    Done,
    Judge,
    sheet_of,
    train,
)
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import StageRun

STAGE, GENERATOR = "gan", "generator.keras"
RECIPES: Mapping[RecipeName, type[GAN]] = {"imle": IMLE, "dcgan": DCGAN}
FRAMES, MOMENTS = 60, 8
FRAME = 300
"""Milliseconds that the film shows each of its frames."""


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
    recipe = RECIPES[params.recipe]
    on = devices.given(job.settings.gpus, recipe.rows).unscaled()
    choices = {
        **params.model_dump(include={"recipe", "size", "minutes", "steps", "seed"}),
        "crops": crops.key(job),
        "precision": on.precision,
    }

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        with on.scope():
            model = recipe(given.training, params.size, params.seed)
        budget = Budget(params.steps, params.minutes)
        done = train(model, Judge(given.held_out), checkpoints, budget, every, partial(_log, stage))
        return _keep(stage, checkpoints, model, done, job.animal)

    return perform(job, STAGE, choices, work)


def _log(stage: StageRun, point: Mapping[str, float], step: int, sheet: Path) -> None:
    stage.points({f"training/{name}": value for name, value in point.items()}, step)
    stage.file(sheet, SAMPLES)


def _keep(stage: StageRun, checkpoints: Path, model: GAN, done: Done, animal: str) -> Findings:
    """Keep pictures, curves and, last, the best generator."""
    points = pd.DataFrame(done.points)
    sheets = [np.asarray(Image.open(sheet_of(checkpoints, step))) for step in points.step.astype(int)]
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
    stage.network(GENERATOR, gan.exported(model.averaged))
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
