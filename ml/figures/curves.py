"""Figures of one classifier's training and its out-of-fold probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter
from sklearn import metrics

from ml.figures.style import (
    ANIMAL,
    INK,
    OTHER,
    PALE,
    QUIET,
    BoolArray,
    FloatArray,
    house_style,
    new_figure,
    photos,
)

THRESHOLD = 0.5
CORNERS = (0.02, 0.04, 0.1, 0.2, 0.4, 1.0)  # sides of the corner that is shown enlarged


@house_style
def learning_curves(histories: Sequence[Mapping[str, Sequence[float]]], title: str = "") -> Figure:
    """One panel a metric: a thin line a fold, and a thick one for their mean as long as all of them run.

    `histories` holds for each fold what Keras' `History.history` does: metric -> one value an epoch, with
    `val_` before its name where it is of the photos left out. The learning rate is not drawn.
    """
    names = [name for name in histories[0] if not name.startswith("val_") and name != "learning_rate"]
    folds = f"{len(histories)} fold" + ("" if len(histories) == 1 else "s")
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(0.5 + 3.1 * rows, f"Learning curves, {folds}" + (f": {title}" if title else ""))
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        for key, colour, kind in ((name, QUIET, "trained on"), (f"val_{name}", ANIMAL, "left out")):
            if key not in histories[0]:
                continue
            for history in histories:
                axes.plot(_epochs(history[key]), history[key], color=colour, linewidth=0.8, alpha=0.45)
            mean = np.mean(list(zip(*(history[key] for history in histories), strict=False)), axis=1)
            last = np.mean([history[key][-1] for history in histories])
            axes.plot(
                _epochs(mean),
                mean,
                color=colour,
                linewidth=2.4,
                label=f"photos {kind}: {last:.3f} at the end",
            )
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


def _epochs(values: Sequence[float] | FloatArray) -> range:
    return range(1, len(values) + 1)


@house_style
def confusion_matrix(matrices: Mapping[str, FloatArray], animal: str) -> Figure:
    """A panel a matrix [2, 2] of photos by truth (rows) and answer (columns), other first.

    The keys say which photos they are. The colour is the share of the row, so that the two sides can be
    compared however unequal their numbers.
    """
    figure = new_figure(4.1, f"Answers for {animal} against the truth")
    ticks = ["other", animal]
    for axes, (name, matrix) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
        axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("shares", ["white", OTHER]), vmin=0, vmax=1)
        for row, column in np.ndindex(2, 2):
            colour = "white" if shares[row, column] > 0.5 else INK
            number = f"{matrix[row, column]:,.1f}".removesuffix(".0")
            axes.text(column, row - 0.06, number, ha="center", va="bottom", color=colour, fontsize=15)
            axes.text(column, row + 0.06, f"{shares[row, column]:.1%}", ha="center", va="top", color=colour)
        axes.set(
            xticks=[0, 1],
            yticks=[0, 1],
            xticklabels=ticks,
            yticklabels=ticks,
            xlabel="answer",
            ylabel="truth",
        )
        axes.set_title(f"{name}, {photos(matrix.sum())}")
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(True)
    return figure


@house_style
def roc_curve(labels: BoolArray, probabilities: FloatArray, weights: FloatArray, animal: str) -> Figure:
    """The ROC curve on balanced draws and on all photos, and its corner enlarged.

    `weights` are those of the balanced draws, as of `classification.draw_weights`.     The dots mark where
    the threshold of 0.5 lies; the corner is as large as they need.
    """
    figure = new_figure(4.6, f"How well the probability ranks: {animal} or not")
    whole, corner = figure.subplots(1, 2)
    everything = (f"all, {photos(len(labels))}", np.ones(len(labels)), QUIET)
    balanced = (f"balanced draws of {photos(weights.sum())}", weights, ANIMAL)
    reach = 0.02
    for name, weight, colour in (everything, balanced):
        false_alarms, found, _ = metrics.roc_curve(labels, probabilities, sample_weight=weight, drop_intermediate=False)
        area = metrics.roc_auc_score(labels, probabilities, sample_weight=weight)
        point = [np.average(probabilities[side] >= THRESHOLD, weights=weight[side]) for side in (~labels, labels)]
        reach = next(r for r in CORNERS if r >= min(max(reach, point[0], 1 - point[1]), 1))
        for axes in (whole, corner):
            axes.plot(false_alarms, found, color=colour, label=f"{name}: area {area:.4f}")
            axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False, zorder=3)
    whole.plot([0, 1], [0, 1], color=PALE, zorder=0)
    whole.legend(loc="lower right")
    whole.set(title="whole curve (dot: threshold 0.5)", xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    corner.set(title="its corner", aspect="equal")
    corner.set(xlim=(-reach / 100, reach), ylim=(1 - reach, 1 + reach / 100))
    corner.xaxis.set_major_locator(MultipleLocator(reach / 4))
    corner.yaxis.set_major_locator(MultipleLocator(reach / 4))
    for axes in (whole, corner):
        axes.set(xlabel=f"other animals called {animal}", ylabel=f"{animal} photos found")
        _percent(axes)
    return figure


@house_style
def reliability_diagram(
    bins: pd.DataFrame, brier: float, calibration_error: float, by_chance: float, animal: str
) -> Figure:
    """What the probabilities promise against what happens.

    `bins` is the table of `classification.reliability_bins`, `by_chance` the calibration error to be expected if every
    promise were kept. Above, the share of the animal in each bin with its 95 % interval; below, how many photos the bin
    holds.
    """
    n = bins.n.sum()
    figure = new_figure(5.4, f"Are the probabilities of {animal} to be believed? {photos(n)}")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label="promise kept exactly")
    errors = np.array([bins.positive_rate - bins.rate_low, bins.rate_high - bins.positive_rate])
    above.errorbar(
        bins.mean_probability,
        bins.positive_rate,
        yerr=errors,
        fmt="o",
        color=ANIMAL,
        markersize=6,
        elinewidth=1.4,
        label="photos of one bin, 95 % interval",
    )
    above.set_title(f"calibration error {calibration_error:.3f} (by chance {by_chance:.3f}), Brier score {brier:.3f}")
    above.set(ylabel=f"share that is {animal}", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    above.legend(loc="upper left")
    width = bins.high - bins.low
    below.bar(bins.low, bins.n, width=width, align="edge", color=OTHER, edgecolor="white")
    for left, wide, count in zip(bins.low, width, bins.n, strict=True):
        number = f"{count:,.0f}" if count >= 1 else "<1"
        below.annotate(
            number,
            (left + wide / 2, count),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    below.set(xlabel=f"probability of {animal}", ylabel="photos", ylim=(0, 1.2 * bins.n.max()))
    return figure


def _percent(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=None))
