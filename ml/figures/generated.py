"""Figures of generated pictures: how they came about."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ml.figures.style import ANIMAL, OTHER, PALE, QUIET, WIDTH, Image, bare, house_style, new_figure, plain_ticks

COLUMNS = 10
TITLE = 0.5
COLOURS = (OTHER, ANIMAL, QUIET, "#009e73")


def tiles(pictures: Image, columns: int) -> Image:
    """Return pictures uint8 [N, S, S, 3] side by side as one, [rows * S, columns * S, 3]; what is missing is white."""
    size = pictures.shape[1]
    rows = -(-len(pictures) // columns)
    filled = np.full((rows * columns, size, size, 3), 255, np.uint8)
    filled[: len(pictures)] = pictures
    return filled.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


@house_style
def samples_over_time(steps: Sequence[int], samples: Sequence[Image], animal: str) -> Figure:
    """A row a moment: what the same latents drew after so many steps, each of `samples` uint8 [N, S, S, 3]."""
    height = WIDTH / COLUMNS
    figure = new_figure(TITLE + 1.03 * height * len(steps), f"What the same numbers draw as the {animal} GAN learns")
    for axes, step, pictures in zip(figure.subplots(len(steps), 1, squeeze=False)[:, 0], steps, samples, strict=True):
        bare(axes).imshow(tiles(pictures[:COLUMNS], COLUMNS), interpolation="lanczos")
        axes.set_ylabel(f"step {step:,}", rotation=0, ha="right", va="center", labelpad=6)
    return figure


@house_style
def gan_curves(points: pd.DataFrame, best: int, animal: str) -> Figure:
    """The losses, and the distance from photos that were not trained on.

    `points` has a row a look: `step`, `kid`, `kid_low`, `kid_high`, and a column for each loss, `loss_<name>`. `best`
    is the step whose weights are kept.
    """
    figure = new_figure(4.0, f"How the {animal} GAN learnt: {points.step.max():,} steps")
    left, right = figure.subplots(1, 2)
    losses = [name for name in points.columns if name.startswith("loss_")]
    for name, colour in zip(losses, COLOURS, strict=False):
        left.plot(points.step, points[name], color=colour, label=name.removeprefix("loss_").replace("_", " "))
    left.set_title("losses, mean since the last look")
    left.legend()
    _distance(right, points, best)
    for axes in (left, right):
        axes.set_xlabel("step")
    return figure


def _distance(axes: Axes, points: pd.DataFrame, best: int) -> None:
    axes.fill_between(points.step, points.kid_low, points.kid_high, color=PALE, linewidth=0, label="95 % interval")
    axes.plot(points.step, points.kid, color=ANIMAL)
    kept = points.kid[points.step == best].iloc[0]
    axes.plot(best, kept, "o", color=ANIMAL, markersize=9, markeredgecolor="white", label=f"kept: {kept:.3g}")
    if (points.kid > 0).all():
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
        axes.set_ylim(points.kid.min() / 2, points.kid_high.max() * 1.2)
    axes.set_title("KID to photos that were not trained on")
    axes.legend()
