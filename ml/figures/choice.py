"""Figures of the choice among candidates and of the meeting with the champion."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ml.figures.style import (
    ANIMAL,
    GOOD,
    INK,
    OTHER,
    PALE,
    QUIET,
    house_style,
    new_figure,
    photos,
    plain_ticks,
)


@house_style
def candidates(
    names: Sequence[str],
    accuracies: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    animal: str,
    n_photos: float,
    chosen: str | None = None,
    champion: str | None = None,
    expected: tuple[float, float, float] | None = None,
) -> Figure:
    """Each candidate's accuracy and its 95 % interval, best on top, the chosen one and the champion marked.

    `expected` is accuracy, low and high of `selection.SelectedAccuracy`: what the chosen one is worth once
    the luck of the choice is taken out, drawn as a band.
    """
    order = np.argsort(accuracies, kind="stable")
    figure = new_figure(
        1.7 + 0.42 * len(names),
        f"Accuracy of the candidates for {animal}, {photos(n_photos)}, 95 % intervals",
    )
    axes = figure.subplots()
    axes.set_xlabel("accuracy")
    if expected:
        accuracy, low, high = expected
        axes.axvspan(low, high, color=PALE, alpha=0.6, linewidth=0)
        axes.axvline(accuracy, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlabel(f"accuracy; dashed: {accuracy:.1%}, to be expected of the chosen one, corrected for the choice")
    for place, index in enumerate(order):
        name = names[index]
        colour = ANIMAL if name == chosen else OTHER if name == champion else QUIET
        marker = "D" if name == champion else "o"
        axes.plot([lows[index], highs[index]], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(accuracies[index], place, marker, color=colour, markersize=8, markeredgecolor="white")
        axes.annotate(
            f"{accuracies[index]:.1%}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=INK if colour == QUIET else colour,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(names)), [_role(names[index], chosen, champion) for index in order])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


@house_style
def cost_of_accuracy(
    candidates: Mapping[str, Mapping[str, float]], animal: str, n_photos: float, chosen: str | None = None
) -> Figure:
    """Each candidate's accuracy and its 95 % interval against its time a photo, the area of the dot being its size.

    `candidates` holds the metrics of each by its name: `cv_accuracy_*`, `milliseconds_a_photo`, `million_parameters`.
    """
    figure = new_figure(4.6, f"Accuracy for {animal} against time and size, {photos(n_photos)}, 95 % intervals")
    axes = figure.subplots()
    for name, metrics in sorted(candidates.items(), key=lambda item: item[1]["milliseconds_a_photo"]):
        place, accuracy = metrics["milliseconds_a_photo"], metrics["cv_accuracy_mean"]
        colour = ANIMAL if name == chosen else OTHER
        interval = [metrics["cv_accuracy_low"], metrics["cv_accuracy_high"]]
        axes.plot([place] * 2, interval, color=colour, linewidth=1.2, alpha=0.6, zorder=1)
        axes.scatter(place, accuracy, s=30 + 40 * metrics["million_parameters"], color=colour, alpha=0.75, zorder=2)
        axes.annotate(
            f"{_role(name, chosen, None)}, {metrics['million_parameters']:.2g} M",
            (place, accuracy),
            xytext=(7, -4),
            textcoords="offset points",
            fontsize=8,
            va="top",
        )
    axes.set_xscale("log")
    axes.set(xlabel="milliseconds a photo, on the machine of this run", ylabel="accuracy")
    plain_ticks(axes.xaxis)
    axes.margins(x=0.18)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def _role(name: str, chosen: str | None, champion: str | None) -> str:
    roles = [role for role, holder in (("chosen", chosen), ("champion", champion)) if name == holder]
    return f"{name} ({', '.join(roles)})" if roles else name


@house_style
def paired_comparison(
    difference: float,
    low: float,
    high: float,
    gained: int,
    lost: int,
    margin: float,
    animal: str,
    n_photos: int,
) -> Figure:
    """Challenger against champion on the same photos: the difference, and the photos on which they disagree.

    `difference` of balanced accuracy, `low` and `high` its 95 % interval, as in `meeting.PairedComparison`.
    An interval that ends within the grey zone, or right of it, counts as not worse.
    """
    figure = new_figure(2.9, f"The challenger for {animal} against the champion, the same {photos(n_photos)}")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    reach = 1.25 * max(abs(low), abs(high), 1.5 * margin)
    left.axvspan(-margin, 0, color=PALE, linewidth=0)
    left.axvline(0, color=INK, linewidth=1)
    left.text(-margin / 2, 0.62, "not worse", ha="center", fontsize=8, color=QUIET)
    colour = GOOD if low > 0 else ANIMAL if high < 0 else OTHER
    left.plot([low, high], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    left.plot(difference, 0, "o", color=colour, markersize=10, markeredgecolor="white")
    left.set(xlim=(-reach, reach), ylim=(-0.8, 0.9), yticks=[])
    left.set_title(f"balanced accuracy: {100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, 95 %)")
    left.set_xlabel("←  champion better        points        challenger better  →")
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.1f}" if value else "0"))
    left.spines["left"].set_visible(False)

    bars = right.barh([1, 0], [gained, lost], color=[GOOD, ANIMAL], height=0.55)
    right.bar_label(bars, padding=4)
    right.set_yticks([1, 0], ["newly right", "newly wrong"])
    right.set(title="photos on which they disagree", xlim=(0, 1.18 * max(gained, lost, 1)), ylim=(-0.6, 1.6))
    right.xaxis.set_visible(False)
    right.grid(False)
    right.spines["bottom"].set_visible(False)
    return figure
