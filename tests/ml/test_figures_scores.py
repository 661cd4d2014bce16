import numpy as np
import pytest

from ml.figures.scores import Shown, familiarity, score_sheet

RANDOM = np.random.default_rng(0)


@pytest.fixture
def images() -> list[np.ndarray]:
    return [RANDOM.integers(0, 256, (20 + n, 30, 3), np.uint8) for n in range(4)]


def test_a_sheet_shows_every_photo_under_its_part(images: list[np.ndarray]) -> None:
    parts = [
        Shown("tiger: 4 found, the surest", images, [f"0.{9 - n}\n{n}.jpg" for n in range(4)]),
        Shown("tiger: the most doubtful", images[:1], ["0.51\n7.jpg"]),
        Shown("fox: 0 found", [], []),
    ]
    figure = score_sheet(parts, "What the champions say")
    figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title().split("\n")[1] for axes in shown] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "7.jpg"]
    assert [part._suptitle.get_text() for part in figure.subfigs] == [part.title for part in parts[:2]]


def test_a_sheet_of_nothing() -> None:
    score_sheet([Shown("tiger: 0 found", [], [])], "Nothing").draw_without_rendering()


def test_familiarity_says_how_many_photos_are_compared() -> None:
    figure = familiarity(RANDOM.normal(9, 1, 30), RANDOM.normal(5, 1, 200), 7.0, "How far")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "training: 200 photos",
        "new: 30 photos",
        "95 % of the training photos are left of it",
    ]
    heights = [patch.get_path().vertices[:, 1].max() for patch in axes.patches]
    assert all(0 < height <= 100 for height in heights)
