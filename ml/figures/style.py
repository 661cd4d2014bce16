"""The house style: one look for all figures, and how a figure becomes a picture."""

import functools
import io
import textwrap
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ml.figures.lettering import FAMILY, make_legible

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]
Image = npt.NDArray[np.uint8]

# Okabe & Ito's colours, which people with any colour vision tell apart.
ANIMAL = "#d55e00"
OTHER = "#0072b2"
GOOD = "#009e73"
INK = "#22272e"
QUIET = "#8a929c"
PALE = "#e4e7eb"

WIDTH = 9.0  # inches; with the resolution below a picture is 1,170 pixels wide
DPI = 130
TITLE_CHARACTERS = 84

STYLE: Any = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.family": FAMILY,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
}

P = ParamSpec("P")


def house_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the house style, and leave matplotlib's own settings as they were."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            make_legible(figure)
        return figure

    return styled


def new_figure(height: float, title: str) -> Figure:
    """An empty figure of report width and `height` inches, under a title that is wrapped to fit."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[call-arg, union-attr]
    figure.suptitle(textwrap.fill(title, TITLE_CHARACTERS), x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


def bare(axes: Axes) -> Axes:
    """Take away ticks, grid and frame: for photos and maps, whose axes mean nothing."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return axes


def plain_ticks(axis: Axis) -> None:
    """Write 1, 2 and 5 times a power of ten at a logarithmic axis: the usual 10² would need mathematical text."""
    plain = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "125" else "")
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, for a page that carries its pictures within."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def photos(n: float) -> str:
    """`1 photo`, `2,650 photos`."""
    return f"{n:,.0f} photo" + ("" if round(n) == 1 else "s")
