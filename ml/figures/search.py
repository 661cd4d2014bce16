"""Figures of a hyper-parameter search, and of the comparison of regularisations."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from ml.figures.style import ANIMAL, GOOD, INK, OTHER, PALE, QUIET, house_style, new_figure, photos

COLUMNS = 4


@house_style
def search(trials: pd.DataFrame, parameters: Sequence[str], animal: str) -> Figure:
    """How the searches went on, and which values did well.

    `trials` has a row a trial: `outer_fold` (a search each; the first one's is drawn bold), `trial` (from 0), `score`,
    `stopped`, and a column for each of `parameters`. Hollow dots are trials that were stopped early.
    """
    rows = -(-len(parameters) // COLUMNS)
    n_searches = trials.outer_fold.nunique()
    figure = new_figure(
        3.4 + 1.75 * rows,
        f"Search for {animal}: {len(trials)} trials in {n_searches} " + ("search" if n_searches == 1 else "searches"),
    )
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.2, 1.75 * rows])[:, 0]
    _progress(above.subplots(), trials)
    below.suptitle(
        "which values did well; line: median of the trials that were not stopped", x=0.075, ha="left", size=10.5
    )
    panels = below.subplots(rows, COLUMNS, squeeze=False, sharey=True)
    for axes in panels.flat[len(parameters) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, parameters, strict=False):
        _values(axes, trials, name)
    for axes in panels[:, 0]:
        axes.set_ylabel("score")
    return figure


def _progress(axes: Axes, trials: pd.DataFrame) -> None:
    searches = list(trials.groupby("outer_fold", sort=False))
    for place, (_, tried) in reversed(list(enumerate(searches))):
        colour, width = (ANIMAL, 2.4) if place == 0 else (QUIET, 1.0)
        best = tried.score.where(~tried.stopped).cummax().ffill()
        label = {0: "best so far, all folds", 1: "best so far, one outer fold left out"}.get(place)
        axes.step(tried.trial + 1, best, where="post", color=colour, linewidth=width, label=label)
        _dots(axes, tried.trial + 1, tried, colour, 28 if place == 0 else 12)
    axes.set(xlabel="trial", ylabel="score (mean ROC-AUC)")
    axes.set_title("each dot a trial; hollow: stopped after two folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=0.85)


def _values(axes: Axes, trials: pd.DataFrame, name: str) -> None:
    values = trials[name]
    known = sorted(values.unique())
    if values.dtype.kind not in "fi" or all(float(_short(value)) == value for value in known):
        places = values.map({value: place for place, value in enumerate(known)}).astype(float)
        axes.set_xticks(range(len(known)), [_short(value) for value in known])
        axes.set_xlim(-0.6, len(known) - 0.4)
        for _, group in trials[~trials.stopped].groupby(name):
            axes.plot(
                [known.index(group[name].iloc[0]) + side for side in (-0.3, 0.3)],
                [group.score.median()] * 2,
                color=INK,
                linewidth=1.4,
                zorder=3,
            )
    else:
        places = values.astype(float)
        if values.min() > 0:
            axes.set_xscale("log")
            ticks = [digit * 10.0**power for power in range(-9, 4) for digit in (1, 2, 5)]
            shown = [tick for tick in ticks if values.min() <= tick <= values.max()]
            axes.set_xticks(shown, [_short(tick) for tick in shown])
            axes.xaxis.set_minor_locator(NullLocator())
    _dots(axes, places, trials, OTHER, 14)
    axes.set_title(name.replace("_", " "), fontsize=9.5)
    axes.tick_params(labelsize=8)


def _dots(axes: Axes, x: pd.Series, trials: pd.DataFrame, colour: str, size: float) -> None:
    for stopped, face in ((False, colour), (True, "white")):
        some = trials.stopped == stopped
        axes.scatter(x[some], trials.score[some], s=size, facecolor=face, edgecolor=colour, linewidth=0.8, zorder=2)


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


@house_style
def regularisations(table: pd.DataFrame, animal: str, n_photos: float) -> Figure:
    """Accuracy of each regularisation with its 95 % interval, beside that on the photos trained on.

    Columns of `table`: `name`, `cv_accuracy_mean`, `cv_accuracy_low`, `cv_accuracy_high`, `train_accuracy_mean`,
    `overfits`; rows are drawn from top to bottom.
    """
    figure = new_figure(
        1.6 + 0.42 * len(table),
        f"Regularisations of the tuned network for {animal}, {photos(n_photos)}, 95 % intervals",
    )
    axes = figure.subplots()
    for place, (_, row) in enumerate(table[::-1].iterrows()):
        colour = ANIMAL if row.overfits else GOOD
        axes.plot([row.cv_accuracy_mean, row.train_accuracy_mean], [place, place], color=PALE, linewidth=5, zorder=1)
        axes.plot([row.cv_accuracy_low, row.cv_accuracy_high], [place, place], color=colour, linewidth=2.2)
        axes.plot(row.cv_accuracy_mean, place, "o", color=colour, markersize=8, markeredgecolor="white")
        axes.plot(row.train_accuracy_mean, place, "D", color=QUIET, markersize=6, markeredgecolor="white")
        axes.annotate(
            f"{row.cv_accuracy_mean:.1%}, trained on {row.train_accuracy_mean:.1%}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    axes.plot([], [], "o", color=GOOD, label="photos left out")
    axes.plot([], [], "o", color=ANIMAL, label="photos left out: overfits")
    axes.plot([], [], "D", color=QUIET, label="photos trained on")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    axes.set_yticks(range(len(table)), table.name[::-1])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlabel("accuracy")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure
