"""Figures of what a network looks at and what its layers make of photos."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure, SubFigure

from ml.analysis.heat import on_photo
from ml.figures.lettering import tail
from ml.figures.sheets import CAPTION_CHARACTERS, CAPTION_HEIGHT
from ml.figures.style import INK, WIDTH, FloatArray, Image, bare, house_style, new_figure

HEAT = colormaps["inferno"]
COLUMNS = 6
CHANNELS = 10
FILTER_COLUMNS = 16
TITLE_HEIGHT = 0.65  # inches
HEADING_HEIGHT = 0.4
STRONGEST = 0.75  # how far the strongest heat hides the photo


class Explained(NamedTuple):
    """A photo, uint8[h, w, 3], where the network finds the animal in it, float[h, w] 0 to 1, and what it is."""

    photo: Image
    heat: FloatArray
    caption: str


@house_style
def grad_cam(kinds: Mapping[str, Sequence[Explained]], title: str, columns: int = COLUMNS) -> Figure:
    """Photos, and below each the same in grey under the heat; a block for each kind, whose name is its heading."""
    kinds = {name: shown for name, shown in kinds.items() if shown}
    heights = [HEADING_HEIGHT + _block_height(shown, columns) for shown in kinds.values()]
    figure = _dense_figure(TITLE_HEIGHT + sum(heights), title)
    if kinds:
        parts = figure.subfigures(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, (name, shown) in zip(parts, kinds.items(), strict=True):
            part.suptitle(name, x=0.012, ha="left", fontsize=10.5)
            _block(part, shown, columns)
    return figure


def _block_height(shown: Sequence[Explained], columns: int) -> float:
    lines = max(explained.caption.count("\n") + 1 for explained in shown)
    rows = -(-len(shown) // columns)
    return rows * (2 * WIDTH / columns * _tallest([photo for photo, _, _ in shown]) + CAPTION_HEIGHT * lines)


def _block(part: SubFigure, shown: Sequence[Explained], columns: int) -> None:
    rows = -(-len(shown) // columns)
    cells = part.subplots(2 * rows, columns, squeeze=False)
    for axes in cells.flat:
        bare(axes)
    for place, (photo, heat, caption) in enumerate(shown):
        row, column = divmod(place, columns)
        above, below = cells[2 * row : 2 * row + 2, column]
        above.imshow(photo, interpolation="lanczos")
        above.set_anchor("S")
        below.imshow(_overlaid(photo, heat), interpolation="lanczos")
        below.set_anchor("N")
        lines = "\n".join(tail(line, CAPTION_CHARACTERS) for line in caption.split("\n"))
        below.set_xlabel(lines, fontsize=7, labelpad=3, color=INK, linespacing=1.3)


def _overlaid(photo: Image, heat: FloatArray) -> FloatArray:
    """The photo in grey under the heat, float[h, w, 3], 0 to 1."""
    grey = (photo @ np.array([0.299, 0.587, 0.114]))[..., None] / 255
    opacity = STRONGEST * heat[..., None]
    return (1 - opacity) * grey + opacity * HEAT(0.25 + 0.75 * heat)[..., :3]


@house_style
def feature_maps(
    photos: Sequence[Image], captions: Sequence[str], maps: Mapping[str, FloatArray], title: str, padded: bool = False
) -> Figure:
    """What each layer makes of the photos: a row a photo, a column a channel, bright where it answers strongly.

    `maps` are those of `explanation.feature_maps`, layer -> float32[N, h, w, C], of photos fitted in as `padded` says.
    Of each layer the ten channels that vary most from place to place are shown, each on one scale for all photos.
    """
    cell = WIDTH / (CHANNELS + 1)
    heights = [cell * _tallest([photo]) + CAPTION_HEIGHT for photo in photos]
    height = HEADING_HEIGHT + sum(heights)
    figure = _dense_figure(TITLE_HEIGHT + len(maps) * height, title)
    parts = figure.subfigures(len(maps), 1, squeeze=False)[:, 0]
    for part, (layer, values) in zip(parts, maps.items(), strict=True):
        _, h, w, channels = values.shape
        chosen = _most_varied(values)
        of = "all" if len(chosen) == channels else f"the {len(chosen)} most varied of"
        part.suptitle(f"{layer}: {h} × {w}, {of} {channels} channels", x=0.012, ha="left", fontsize=10.5)
        cells = part.subplots(len(photos), CHANNELS + 1, squeeze=False, height_ratios=heights)
        for axes in cells.flat:
            bare(axes)
        for row, photo, caption, of_photo in zip(cells, photos, captions, values, strict=True):
            row[0].imshow(photo, interpolation="lanczos")
            row[0].set_xlabel(tail(caption, 16), fontsize=7, labelpad=2, color=INK)
            for axes, channel in zip(row[1:], chosen, strict=False):
                shown = on_photo(of_photo[..., channel], photo.shape[:2], padded, smooth=False)
                low, high = np.percentile(values[..., channel], (1, 99))
                axes.imshow(shown, cmap="magma", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
        for axes, channel in zip(cells[0, 1:], chosen, strict=False):
            axes.set_title(f"{channel}", fontsize=7, loc="center", pad=2)
    return figure


def _most_varied(values: FloatArray) -> list[int]:
    """The channels whose answers vary most from place to place within a photo, in their order."""
    spread = values.std(axis=(1, 2)).mean(axis=0)
    return sorted(np.argsort(-spread, kind="stable")[:CHANNELS].tolist())


@house_style
def filters(kernels: FloatArray, title: str, columns: int = FILTER_COLUMNS) -> Figure:
    """The filters of a first convolution, float[k, k, 3, C], as small colour pictures: grey is zero."""
    count = kernels.shape[-1]
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = _dense_figure(TITLE_HEIGHT + rows * (WIDTH / columns + CAPTION_HEIGHT), title)
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for axes in cells:
        bare(axes)
    for number, axes in zip(range(count), figure.axes, strict=False):
        kernel = kernels[..., number]
        axes.imshow(0.5 + kernel / (2 * max(np.abs(kernel).max(), 1e-12)), interpolation="nearest")
        axes.set_title(f"{number}", fontsize=7, loc="center", pad=2)
    return figure


def _dense_figure(height: float, title: str) -> Figure:
    figure = new_figure(height, title)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)  # type: ignore[call-arg, union-attr]
    return figure


def _tallest(photos: Sequence[Image]) -> float:
    """Height of a cell for its width that suits the tallest photo, at most a square."""
    return min(1.0, max(photo.shape[0] / photo.shape[1] for photo in photos))
