import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ml import figures


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rendered(figure: Figure) -> np.ndarray:
    """The figure as a picture, once it is known to be of report width with something drawn on white."""
    pixels = np.asarray(Image.open(io.BytesIO(figures.png(figure))).convert("L"))
    assert pixels.shape[1] == 1170
    assert 0.001 < (pixels < 200).mean() < 0.9
    return pixels


def texts(figure: Figure) -> str:
    """All that is written in the figure, a line each."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


def photos(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    shapes = [(80, 120, 3), (120, 80, 3), (200, 200, 3)]
    return [rng.integers(0, 255, shapes[i % 3], dtype=np.uint8) for i in range(n)]


def test_learning_curves_show_every_fold_to_its_end(rng):
    keys = ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate")
    histories = [{key: list(rng.random(epochs)) for key in keys} for epochs in (4, 7)]
    figure = figures.learning_curves(histories, "fox")
    rendered(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    lengths = sorted(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert lengths == [4, 4, 4, 4, 7, 7]  # for both kinds of photo: two folds, and a mean while both run
    last = np.mean([history["val_loss"][-1] for history in histories])
    assert f"left out: {last:.3f}" in texts(figure)


def test_learning_curves_without_photos_left_out(rng):
    rendered(figures.learning_curves([{"generator": [3.0, 2.0], "discriminator": [1.0, 1.5]}]))


def test_confusion_matrix_writes_counts_and_shares():
    figure = figures.confusion_matrix(
        {"drawn": np.array([[30.4, 9.6], [4, 36]]), "all": np.array([[2000, 0], [0, 0]])}, "fox"
    )
    rendered(figure)
    assert {"30.4", "76.0%", "36", "90.0%", "2,000", "drawn, 80 photos"} <= set(texts(figure).split("\n"))


@pytest.mark.parametrize("skill", [0.0, 1.5, 20.0])
def test_roc_curve_of_a_poor_a_fair_and_a_perfect_model(rng, skill):
    labels = np.arange(300) < 40
    probabilities = 1 / (1 + np.exp(-skill * (2 * labels - 1) - rng.normal(size=300)))
    figure = figures.roc_curve(labels, probabilities, np.where(labels, 1, 40 / 260), "fox")
    rendered(figure)
    assert "balanced draws of 80 photos" in texts(figure)
    corner = figure.axes[1]
    dots = [line for line in corner.lines if line.get_marker() == "o"]
    for dot in dots:
        assert corner.get_xlim()[0] <= dot.get_xdata()[0] <= corner.get_xlim()[1]
        assert corner.get_ylim()[0] <= dot.get_ydata()[0] <= corner.get_ylim()[1]


def test_reliability_diagram():
    bins = pd.DataFrame(
        [(0.0, 0.1, 40.0, 0.03, 0.05, 0.01, 0.16), (0.9, 1.0, 0.4, 0.97, 1.0, 0.2, 1.0)],
        columns=["low", "high", "n", "mean_probability", "positive_rate", "rate_low", "rate_high"],
    )
    figure = figures.reliability_diagram(bins, brier=0.0214, calibration_error=0.0317, by_chance=0.0284, animal="fox")
    rendered(figure)
    assert "calibration error 0.032 (by chance 0.028), Brier score 0.021" in texts(figure)
    assert "<1" in texts(figure)


@pytest.mark.parametrize("n", [1, 6, 13])
def test_contact_sheet_grows_with_its_photos(rng, n):
    figure = figures.contact_sheet(photos(rng, n), [f"photo {i}" for i in range(n)], "Sheet")
    assert sum(bool(axes.images) for axes in figure.axes) == n
    assert f"photo {n - 1}" in texts(figure)
    height = rendered(figure).shape[0]
    assert height == pytest.approx(130 * (0.5 + 1.7 * -(-n // 6)), abs=2)


def test_mistakes_show_the_surest_first_and_count_the_rest(rng):
    labels = np.array([True, True, *[False] * 9])
    probabilities = np.array([0.3, 0.1, *np.linspace(0.5, 0.98, 9)])
    classes = np.where(labels, "fox", "wolf")
    paths = [f"a/long/folder/name/{i}.jpg" for i in range(11)]
    figure = figures.mistakes(photos(rng, 11), labels, probabilities, classes, paths, "fox", 500, rows=1, columns=6)
    rendered(figure)
    written = texts(figure)
    assert "11 in 500 photos" in written
    assert "2 photos of fox missed" in written
    assert "9 photos of other animals called fox, the surest 6 shown" in written
    assert written.index("fox  0.10") < written.index("fox  0.30") < written.index("wolf  0.98")
    assert "wolf  0.50" not in written


def test_no_mistakes_is_a_figure_too():
    none = np.zeros(0)
    figure = figures.mistakes([], none.astype(bool), none, none.astype(str), [], "tiger", 200)
    assert "0 in 200 photos" in texts(figure)
    assert "No photo was misclassified" in texts(figure)
    rendered(figure)


def test_tsne_maps_name_the_classes_that_keep_together(rng):
    classes = np.repeat(["fox", "owl", "wolf"], 30)
    apart = rng.normal(size=(90, 2)) + np.repeat([[0, 0], [40, 0], [0, 40]], 30, axis=0)
    mixed = rng.normal(size=(90, 2))
    maps = {"pixels": figures.Map(mixed, 0.52, 0.5), "features": figures.Map(apart, 0.97, 0.98)}
    figure = figures.tsne_maps(maps, classes, "fox")
    rendered(figure)
    named = [{text.get_text() for text in axes.texts} for axes in figure.axes]
    assert named == [set(), {"owl", "wolf"}]
    assert "97% in features, 98% on map" in texts(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fox", "owl", "wolf"]


def test_candidates_are_sorted_and_the_roles_marked():
    names = ["baseline", "transfer", "tuned"]
    figure = figures.candidates(
        names,
        [0.7, 0.95, 0.8],
        [0.6, 0.9, 0.7],
        [0.8, 0.97, 0.9],
        "fox",
        200,
        "transfer",
        "tuned",
        (0.94, 0.9, 0.96),
    )
    rendered(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["baseline", "tuned (champion)", "transfer (chosen)"]
    assert "94.0%" in texts(figure)
    rendered(figures.candidates(names[:1], [0.7], [0.6], [0.8], "fox", 200))


def test_paired_comparison_says_the_difference_in_points():
    figure = figures.paired_comparison(0.021, 0.004, 0.039, 61, 12, margin=0.01, animal="fox", n_photos=2650)
    rendered(figure)
    assert "+2.1 points (+0.4 to +3.9, 95 %)" in texts(figure)
    assert {"61", "12"} <= set(texts(figure).split("\n"))
    rendered(figures.paired_comparison(0.0, 0.0, 0.0, 0, 0, margin=0.01, animal="fox", n_photos=2650))


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    figures.paired_comparison(0.0, 0.0, 0.0, 0, 0, margin=0.01, animal="fox", n_photos=1)
    assert dict(matplotlib.rcParams) == before
