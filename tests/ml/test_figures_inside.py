import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ml import figures


def texts(figure: Figure) -> str:
    """All that is written in the figure, a line each, once it is known to be of report width."""
    assert Image.open(io.BytesIO(figures.png(figure))).width == 1170
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


@pytest.fixture
def photos() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, shape, dtype=np.uint8) for shape in ((40, 60, 3), (60, 40, 3), (50, 50, 3))]


def test_grad_cam_shows_each_photo_and_its_heat_in_the_photos_shape(photos: list[np.ndarray]) -> None:
    heat = [np.zeros(photo.shape[:2], np.float32) for photo in photos]
    heat[0][:, :30] = 1
    explained = [figures.Explained(*values, "fox  0.98\nfox/1.jpg") for values in zip(photos, heat, strict=True)]
    figure = figures.grad_cam({"surest": explained * 3, "wrong": explained[:1], "none": []}, "Where it looks")
    written = texts(figure)
    assert {"Where it looks", "surest", "wrong", "fox  0.98"} <= set(written.split("\n"))
    assert "none" not in written.split("\n")
    shown = [axes.images[0].get_array() for axes in figure.findobj(matplotlib.axes.Axes) if axes.images]
    assert [image.shape for image in shown].count((40, 60, 3)) == 2 * 4
    (overlaid, *_) = [image for image in shown if image.shape == (40, 60, 3) and image.dtype == float]
    assert np.ptp(overlaid[:, 30:], axis=-1).max() < 1e-6  # grey where there is no heat
    assert np.ptp(overlaid[:, :30], axis=-1).min() > 0.1


def test_feature_maps_show_the_most_varied_channels_of_each_layer(photos: list[np.ndarray]) -> None:
    random = np.random.default_rng(1)
    first = random.random((3, 20, 20, 24), np.float32)
    first[..., 12:] *= 0.01
    first[..., [3, 14]] = first[..., [14, 3]]
    maps = {"conv": first, "pool": random.random((3, 10, 10, 4), np.float32)}
    figure = figures.feature_maps(photos, ["fox", "wolf", "dog"], maps, "Maps", padded=True)
    written = texts(figure).split("\n")
    assert "conv: 20 × 20, the 10 most varied of 24 channels" in written
    assert "pool: 10 × 10, all 4 channels" in written
    assert "14" in written
    assert "13" not in written
    shapes = [axes.images[0].get_array().shape for axes in figure.findobj(matplotlib.axes.Axes) if axes.images]
    assert shapes.count((40, 60)) == 10 + 4
    assert shapes.count((40, 60, 3)) == 2


@pytest.mark.parametrize("count", [1, 16, 33])
def test_filters_are_all_shown_and_zero_is_grey(count: int) -> None:
    kernels = np.random.default_rng(0).normal(size=(5, 5, 3, count)).astype(np.float32)
    kernels[..., 0] = 0
    figure = figures.filters(kernels, "Filters")
    texts(figure)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(shown) == count
    assert (shown[0] == 0.5).all()
    assert all(image.min() >= 0 and image.max() <= 1 for image in shown)
