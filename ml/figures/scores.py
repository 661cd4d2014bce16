"""What champions say of new photos, and how far those are from the training photos."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ml.figures.sheets import COLUMNS, TITLE_HEIGHT, _grid, _height
from ml.figures.style import ANIMAL, INK, OTHER, WIDTH, FloatArray, Image, house_style, new_figure, photos


class Shown(NamedTuple):
    """Photos for one part of a score sheet."""

    title: str
    images: Sequence[Image]
    captions: Sequence[str]


@house_style
def score_sheet(parts: Sequence[Shown], title: str) -> Figure:
    """The photos of each part, at most a row, under its title: uint8[height, width, 3], four wide and three high."""
    parts = [part for part in parts if part.images]
    heights = [TITLE_HEIGHT + _height(part.captions, COLUMNS) - WIDTH / COLUMNS / 4 for part in parts]
    figure = new_figure(TITLE_HEIGHT + sum(heights), title)
    if parts:
        areas = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for area, part in zip(areas, parts, strict=True):
            area.suptitle(part.title, x=0.012, ha="left", fontsize=10.5, color=INK)
            _grid(area, part.images, part.captions, COLUMNS)
    return figure


@house_style
def familiarity(nearest_new: FloatArray, nearest_training: FloatArray, familiar: float, title: str) -> Figure:
    """How far photos are from the training photo most like them: the new ones [N], and the training photos [M].

    Beyond `familiar`, which 95 % of the training photos are within, a photo is like none that was trained on.
    """
    figure = new_figure(3.4, title)
    axes = figure.subplots()
    edges = np.linspace(0, max(nearest_new.max(), nearest_training.max(), familiar) * 1.02, 41).tolist()
    for values, name, colour in ((nearest_training, "training", OTHER), (nearest_new, "new", ANIMAL)):
        axes.hist(
            values,
            edges,
            weights=np.full(len(values), 100 / len(values)),
            histtype="stepfilled",
            color=colour,
            alpha=0.55,
            label=f"{name}: {photos(len(values))}",
        )
    axes.axvline(familiar, color=INK, linewidth=1, linestyle=":", label="95 % of the training photos are left of it")
    axes.set(xlabel="distance to the most similar training photo", ylabel="% of the photos", xlim=(0, None))
    axes.legend()
    return figure
