"""Maps of the photos."""

import colorsys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ml.figures.style import ANIMAL, INK, FloatArray, StrArray, bare, house_style, new_figure, photos

Colour = tuple[float, float, float]

HALO = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.8}
COMPACT = 0.3  # a class is named on the map when its spread is below this share of the whole map's


class Map(NamedTuple):
    """A map, float[N, 2], and `embedding.separability` in the features behind it and on the map itself."""

    points: FloatArray
    in_features: float
    on_map: float


@house_style
def tsne_maps(maps: Mapping[str, Map], classes: StrArray, animal: str) -> Figure:
    """The maps side by side, all of the same photos: the animal in a strong colour, the others muted.

    Another class that keeps together is named where it lies, since no palette tells twenty classes apart for
    everybody.
    """
    others = [name for name in np.unique(classes) if name != animal]
    figure = new_figure(6.2, f"Maps (t-SNE) of {photos(len(classes))}: where {animal} lies among the others")
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (name, (points, in_features, on_map)) in zip(panels, maps.items(), strict=True):
        dots = [
            axes.scatter(*points[classes == other].T, s=9, color=colour, linewidths=0)
            for other, colour in zip(others, _muted(len(others)), strict=True)
        ]
        dots.insert(0, axes.scatter(*points[classes == animal].T, s=16, color=ANIMAL, linewidths=0))
        for compact, place in _compact(points[classes != animal], classes[classes != animal]).items():
            axes.text(*place, compact, fontsize=7, color=INK, ha="center", va="center", bbox=HALO)
        numbers = f"{in_features:.0%} in features, {on_map:.0%} on map (chance 50%)"
        axes.set_title(f"{name}\nnearest neighbours right: {numbers}", fontsize=8.5)
        _square(bare(axes), points)
    figure.legend(
        dots,
        [animal, *others],
        loc="outside lower left",
        ncols=7,
        fontsize=8,
        markerscale=1.8,
        handletextpad=0.2,
    )
    return figure


def _muted(n: int) -> list[Colour]:
    """`n` quiet colours around the circle of hues, light and dark in turn, away from the animal's."""
    return [colorsys.hls_to_rgb(0.14 + 0.8 * place / max(n, 1), (0.72, 0.84)[place % 2], 0.38) for place in range(n)]


def _compact(points: FloatArray, classes: StrArray) -> dict[str, FloatArray]:
    """The classes that keep together, and the middle of each: class -> [2]."""
    middles = {name: np.median(points[classes == name], axis=0) for name in np.unique(classes)}
    whole = _spread(points, np.median(points, axis=0))
    return {name: mid for name, mid in middles.items() if _spread(points[classes == name], mid) < COMPACT * whole}


def _spread(points: FloatArray, middle: FloatArray) -> float:
    return float(np.median(np.linalg.norm(points - middle, axis=1)))


def _square(axes: Axes, points: FloatArray) -> None:
    """Show all points in a square, at the same scale both ways."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.52 * (high - low).max()
    (x, y) = (low + high) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")
