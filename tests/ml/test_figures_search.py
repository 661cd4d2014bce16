import numpy as np
import pandas as pd

from ml import figures


def trials(n: int, outers: list[str]) -> pd.DataFrame:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"outer_fold": np.repeat(outers, n), "trial": list(range(n)) * len(outers)})
    rows = len(table)
    table["score"] = random.uniform(0.5, 0.9, rows)
    table["stopped"] = random.uniform(size=rows) < 0.4
    table.loc[table.trial == 0, "stopped"] = False
    table["learning_rate"] = 10 ** random.uniform(-4, -2, rows)
    table["blocks"] = random.integers(1, 4, rows)
    table["activation"] = random.choice(["relu", "silu"], rows)
    return table


def test_a_search_shows_its_best_so_far_and_a_panel_for_every_parameter() -> None:
    table = trials(6, ["none", "0", "1"])
    figure = figures.search(table, ["learning_rate", "blocks", "activation"], "fox")
    figures.png(figure)
    shown = [axes for axes in figure.get_axes() if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown[1:]] == ["learning rate", "blocks", "activation"]
    assert shown[1].get_xscale() == "log"
    (bold,) = (line for line in shown[0].lines if line.get_label() == "best so far, all folds")
    first = table[table.outer_fold == "none"]
    assert bold.get_ydata()[-1] == first.score[~first.stopped].max()
    assert (np.diff(bold.get_ydata()) >= 0).all()


def test_one_trial_can_be_drawn() -> None:
    assert figures.png(figures.search(trials(1, ["none"]), ["blocks"], "fox")).startswith(b"\x89PNG")


def test_regularisations_mark_those_that_overfit() -> None:
    table = pd.DataFrame({"name": ["none", "dropout"], "cv_accuracy_mean": [0.6, 0.7], "cv_accuracy_low": [0.5, 0.6]})
    table = table.assign(cv_accuracy_high=[0.7, 0.8], train_accuracy_mean=[0.95, 0.75], overfits=[True, False])
    (axes,) = figures.regularisations(table, "fox", 200).get_axes()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dropout", "none"]
    means = {
        line.get_xdata()[0]: line.get_color()
        for line in axes.lines
        if line.get_marker() == "o" and len(line.get_xdata())
    }
    assert means[0.6] != means[0.7]
