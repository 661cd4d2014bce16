import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml.data.views import AREA, MIRROR, PLAIN, view

SHA = "0123456789abcdef" * 4


def photo(height: int, width: int) -> np.ndarray:
    """Every pixel is another colour."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


def test_the_first_two_are_the_photo_and_its_mirror_image() -> None:
    np.testing.assert_array_equal(view(photo(4, 6), PLAIN, SHA), photo(4, 6))
    np.testing.assert_array_equal(view(photo(4, 6), MIRROR, SHA), photo(4, 6)[:, ::-1])


@given(st.integers(1, 120), st.integers(1, 120), st.integers(2, 50), st.integers(0, 2**256 - 1))
def test_the_others_are_windows_of_it(height: int, width: int, number: int, name: int) -> None:
    sha256 = f"{name:064x}"
    window = view(photo(height, width), number, sha256)
    np.testing.assert_array_equal(window, view(photo(height, width), number, sha256))
    top, left = window[..., 0].min(), window[..., 1].min()
    h, w = window.shape[:2]
    expected = photo(height, width)[top : top + h, left : left + w]
    assert any(np.array_equal(window, one) for one in (expected, expected[:, ::-1]))
    if min(height, width) > 30:
        assert AREA[0] - 0.05 < h * w / (height * width) < AREA[1] + 0.05


def test_photos_and_numbers_have_windows_of_their_own() -> None:
    seen = {view(photo(100, 90), number, sha).tobytes() for number in range(2, 8) for sha in (SHA, SHA[::-1])}
    assert len(seen) == 12
