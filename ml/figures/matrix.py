"""Figure of the champions on each other's photos."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ml.figures.style import ANIMAL, INK, PALE, FloatArray, bare, house_style, new_figure

HEAT = LinearSegmentedColormap.from_list("heat", ["white", PALE, ANIMAL])


@house_style
def cross_animals(names: Sequence[str], shares: FloatArray, counts: npt.NDArray[np.integer]) -> Figure:
    """How often the champion of each row takes photos of each column for its own animal.

    `shares` [A, A] in 0 to 1, NaN where there is no champion or no photo; `counts` [A, A] of photos.
    """
    size = len(names)
    figure = new_figure(1.9 + 0.75 * size, "Each animal's champion on the others' photos: share taken for its own")
    axes = bare(figure.subplots())
    axes.imshow(np.nan_to_num(shares), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for row in range(size):
        for column in range(size):
            share, count = shares[row, column], counts[row, column]
            said = "none" if np.isnan(share) else f"{share:.1%}\n{round(share * count)} of {count:,}"
            axes.text(column, row, said, ha="center", va="center", color="white" if share > 0.6 else INK, fontsize=9.5)
    axes.set_xticks(range(size), [f"photos of {name}" for name in names])
    axes.set_yticks(range(size), [f"champion of {name}" for name in names])
    axes.tick_params(length=0)
    return figure
