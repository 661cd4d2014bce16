"""Names are drawn as they are, whatever characters they hold."""

import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest

from ml import figures
from ml.figures import generated, lettering, scores, sheets

NAMES = ("a$\\evil{$.jpg", "$5 and $6.jpg", "x^2_{3}%#&~.jpg", "_x/_y.jpg", "\\frac{1}{2}.jpg", "tiger [2024].jpg")
PHOTO = np.full((8, 12, 3), 127, np.uint8)


def texts(figure: matplotlib.figure.Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_neither_mathematics_nor_left_out(name: str) -> None:
    classes = np.array([name, "fox"] * 20)
    flat = figures.Map(np.random.default_rng(0).normal(size=(40, 2)), 0.5, 0.5)
    shown = figures.Explained(PHOTO, np.zeros((8, 12)), name)
    drawn = [
        figures.contact_sheet([PHOTO], [f"fox 0.93\n{name}"], f"photos of {name}"),
        figures.mistakes([PHOTO], np.array([True]), np.array([0.1]), np.array([name]), [name], "fox", 9),
        figures.tsne_maps({"map": flat}, classes, "fox"),
        figures.grad_cam({name: [shown]}, name),
        scores.score_sheet([scores.Shown(name, [PHOTO], [name])], name),
    ]
    for figure in drawn:
        figures.png(figure)
        assert any(name in text for text in texts(figure))


def test_what_no_font_has_is_written_as_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(action="error", category=UserWarning):  # as matplotlib warns of empty boxes
        figure = figures.contact_sheet([PHOTO] * 2, ["狐/ф.jpg", "a\tb\r\ud7ff.jpg"], "\U0001f98a")
        figures.png(figure)
        assert {"a\\tb\\r\\ud7ff.jpg"} <= set(texts(figure))
        monkeypatch.setattr(lettering, "_family_with", lambda letter: None)
        assert "\\u72d0/ф.jpg" in texts(figures.contact_sheet([PHOTO], ["狐/ф.jpg"], ""))


def test_a_long_name_takes_no_more_room_in_any_script() -> None:
    assert lettering.tail("fox/" + 40 * "x", 6) == "…xxxxx"
    assert lettering.tail(40 * "狐" + ".jpg", 9) == "…狐狐.jpg"
    assert lettering.tail("fox.jpg", sheets.CAPTION_CHARACTERS) == "fox.jpg"


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    points = pd.DataFrame({"step": [0, 9], "kid": [300.0, 2.0], "kid_low": [200.0, 1.0], "kid_high": [400.0, 3.0]})
    figure = generated.gan_curves(points.assign(loss_a=1.0), 9, "fox")
    figures.png(figure)
    ticks = [label.get_text() for label in figure.axes[1].get_yticklabels(which="both")]
    assert {"1", "10", "100", "200"} <= set(ticks)
    assert not any("$" in tick for tick in ticks)
