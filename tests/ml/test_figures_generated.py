import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from ml import figures
from ml.figures import generated

PICTURES = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3), np.uint8)


@given(st.integers(1, 10), st.integers(1, 6))
def test_tiles_are_read_line_by_line(n: int, columns: int) -> None:
    sheet = generated.tiles(PICTURES[:n], columns)
    for place, picture in enumerate(PICTURES[:n]):
        y, x = (8 * part for part in divmod(place, columns))
        np.testing.assert_array_equal(sheet[y : y + 8, x : x + 8], picture)
    assert (sheet == 255).all(axis=2).sum() == 64 * (-n % columns)


def test_samples_over_time_have_a_row_a_moment() -> None:
    figure = generated.samples_over_time([100, 2000], [PICTURES, PICTURES], "fox")
    assert figures.png(figure).startswith(b"\x89PNG")
    assert [axes.get_ylabel() for axes in figure.get_axes()] == ["step 100", "step 2,000"]


def test_gan_curves_mark_what_is_kept() -> None:
    points = pd.DataFrame({"step": [100, 200, 300], "kid": [2.0, 0.2, 0.3], "loss_pixels": [0.3, 0.2, 0.1]})
    points = points.assign(kid_low=points.kid - 0.3, kid_high=points.kid + 0.3, loss_hinge=[np.nan, 1, 0.5])
    figure = generated.gan_curves(points, 200, "fox")
    assert figures.png(figure).startswith(b"\x89PNG")
    losses, kid = figure.get_axes()
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["pixels", "hinge"]
    assert "kept: 0.2" in [text.get_text() for text in kid.get_legend().get_texts()]
    assert figures.png(generated.gan_curves(points[:1], 100, "fox")).startswith(b"\x89PNG")
