import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml.analysis.heat import on_photo, photo_box, share_on_rim
from ml.data import photos

sides = st.integers(24, 90)


@given(height=sides, width=sides, canvas=st.tuples(sides, sides), padded=st.booleans())
@example(height=24, width=89, canvas=(25, 24), padded=True)  # half a pixel of padding on each side
def test_what_lies_on_the_photo_is_cut_out_of_the_canvas(
    height: int, width: int, canvas: tuple[int, int], padded: bool
) -> None:
    photo = np.full((height, width, 3), 255, np.uint8)
    fitted = photos.resize(photo, *canvas, (0, 0, 0) if padded else None)[..., 0].astype(np.float32)
    cut = on_photo(fitted, (height, width), padded)
    assert cut.shape == (height, width)
    # Where padding and photo meet, a pixel may be of both.
    assert (cut[height // 5 : -height // 5, width // 5 : -width // 5] == 255).all()
    area = np.diff(np.reshape(photo_box(canvas, (height, width), padded), (2, 2)), axis=0).prod()
    assert area == (fitted > 0).sum()


def test_share_on_rim_compares_with_the_area() -> None:
    heat = np.ones((100, 100), np.float32)
    share, area = share_on_rim(heat, (50, 100), padded=True)
    assert share == pytest.approx(area, abs=1e-6)
    assert area == pytest.approx(1 - 0.9 * 0.9 / 2, abs=0.01)
    heat[40:60, 40:60] = 1e6
    assert share_on_rim(heat, (50, 100), padded=True)[0] == pytest.approx(0, abs=1e-3)
    heat[:20] = 1e9
    assert share_on_rim(heat, (50, 100), padded=True)[0] == pytest.approx(1, abs=1e-3)
    assert share_on_rim(heat, (100, 100), padded=False)[1] == pytest.approx(0.19)
    share, area = share_on_rim(np.zeros((10, 10), np.float32), (10, 20), padded=True)
    assert share == area
