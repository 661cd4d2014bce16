"""Sheets of photos."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure, SubFigure

from ml.figures.lettering import tail
from ml.figures.style import (
    ANIMAL,
    OTHER,
    WIDTH,
    BoolArray,
    FloatArray,
    Image,
    StrArray,
    bare,
    house_style,
    new_figure,
    photos,
)

COLUMNS = 6
CAPTION_HEIGHT = 0.2  # inches a line
CAPTION_CHARACTERS = 26
TITLE_HEIGHT = 0.5


@house_style
def contact_sheet(images: Sequence[Image], captions: Sequence[str], title: str, columns: int = COLUMNS) -> Figure:
    """The photos side by side, each above its caption: uint8[height, width, 3] of any sizes and shapes."""
    figure = new_figure(TITLE_HEIGHT + _height(captions, columns), title)
    _grid(figure, images, captions, columns)
    return figure


@house_style
def mistakes(
    images: Sequence[Image],
    labels: BoolArray,
    probabilities: FloatArray,
    classes: StrArray,
    paths: Sequence[str],
    animal: str,
    n_photos: int,
    rows: int = 4,
    columns: int = COLUMNS,
) -> Figure:
    """The photos that are told wrong: those of the animal that were missed, then the false alarms.

    The surest mistakes come first. All sequences run over the mistakes only; `n_photos` is how many were
    judged. At most `rows` rows are shown of each kind, and the titles say how many there are. Under a photo:
    class, probability of the animal, path.
    """
    kinds = [
        (f"of {animal} missed", np.flatnonzero(labels), probabilities, ANIMAL),
        (f"of other animals called {animal}", np.flatnonzero(~labels), -probabilities, OTHER),
    ]
    shown = []
    for name, mine, sureness, colour in kinds:
        order = mine[np.argsort(sureness[mine], kind="stable")][: rows * columns]
        of = f", the surest {len(order)} shown" if len(order) < len(mine) else ""
        captions = [f"{classes[i]}  {probabilities[i]:.2f}\n{paths[i]}" for i in order]
        if len(order):
            shown.append((f"{photos(len(mine))} {name}{of}", [images[i] for i in order], captions, colour))

    heights = [TITLE_HEIGHT + _height(captions, columns) for _, _, captions, _ in shown]
    title = f"Mistakes about {animal}: {len(labels):,} in {photos(n_photos)}"
    figure = new_figure(TITLE_HEIGHT + (sum(heights) or TITLE_HEIGHT), title)
    if not shown:
        figure.text(0.012, 0.3, f"No photo was misclassified: all {n_photos:,} are on the right side of 0.5.")
    else:
        parts = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, (name, pictures, captions, colour) in zip(parts, shown, strict=True):
            part.suptitle(name, x=0.012, ha="left", fontsize=10.5, color=colour)
            _grid(part, pictures, captions, columns)
    return figure


def _height(captions: Sequence[str], columns: int) -> float:
    """Inches that a grid takes: square cells, and under each the lines of the longest caption."""
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    return -(-len(captions) // columns) * (WIDTH / columns + CAPTION_HEIGHT * lines)


def _grid(figure: Figure | SubFigure, images: Sequence[Image], captions: Sequence[str], columns: int) -> None:
    cells = figure.subplots(-(-len(images) // columns), columns, squeeze=False).flat
    for axes in cells:
        bare(axes)
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image, interpolation="lanczos")
        axes.set_anchor("S")
        lines = "\n".join(tail(line, CAPTION_CHARACTERS) for line in caption.split("\n"))
        axes.set_title(lines, loc="center", y=0, pad=-4, va="top", fontsize=7, linespacing=1.3)
