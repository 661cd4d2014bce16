from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.data import crops
from ml.data.crops import Box
from ml.errors import DataError

sides = st.integers(8, 200)
places = st.floats(-0.3, 1.0)


def marked(height: int = 60, width: int = 90) -> np.ndarray:
    """Return a grey photo with a red square of 20 pixels, its middle at x 40, y 30."""
    photo = np.full((height, width, 3), 128, np.uint8)
    photo[20:40, 30:50] = (255, 0, 0)
    return photo


def test_a_table_of_boxes_is_read(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("\ufefffile,xmin,ymin,xmax,ymax,who\na.jpg,0.1,0.2,0.5,0.9,me\nb.jpg,-0.1,-0.1,1.1,1,me\n")
    assert crops.read_boxes(file) == {"a.jpg": Box(0.1, 0.2, 0.5, 0.9), "b.jpg": Box(-0.1, -0.1, 1.1, 1.0)}


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbffile,xmin,ymin,xmax,ymax\r\na.jpg,0.1,0.2,0.5,0.9\r\n",
        b"file;xmin;ymin;xmax;ymax\r\na.jpg;0,1;0,2;0,5;0,9\r\n",
        b"\xef\xbb\xbffile;xmin;ymin;xmax;ymax\na.jpg;0.1;0.2;0.5;0.9",
        b" File , xmin , ymin , xmax , ymax \n a.jpg , 0.1 , 0.2 , 0.5 , 0.9 \n\n",
        b'"file","xmin","ymin","xmax","ymax"\n"a.jpg","0,1","0,2","0,5","0,9"\n',
        "file\txmin\tymin\txmax\tymax\r\na.jpg\t0,1\t0,2\t0,5\t0,9\r\n".encode("utf-16"),
    ],
)
def test_tables_are_read_as_other_programs_save_them(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "boxes.csv"
    file.write_bytes(data)
    assert crops.read_boxes(file) == {"a.jpg": Box(0.1, 0.2, 0.5, 0.9)}


def test_a_table_in_another_encoding_is_named_with_the_line_and_what_to_save_it_as(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_bytes("file;xmin;ymin;xmax;ymax\na.jpg;0;0;1;1\nlöwe.jpg;0;0;1;1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"boxes\.csv, line 3: expected text in UTF-8.* Save it as CSV in UTF-8"):
        crops.read_boxes(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,xmin,ymin,xmax\na.jpg,0,0,1\n", "Missing: ymax"),
        ("", "Missing: file, xmax, xmin, ymax, ymin"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,0,0,1,1\nb.jpg,0,zero,1,1\n", "line 3: expected four numbers"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,0,0,1\n", "line 2: expected four numbers"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,0.5,0,0.5,1\n", "line 2: expected xmin < xmax"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,0,nan,1,1\n", "line 2: expected xmin < xmax"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,10,20,200,300\n", "0 to 1 of the photo's width and height"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=r"boxes\.csv") as caught:
        crops.read_boxes(file)
    assert says in str(caught.value)


def test_a_box_is_cut_to_the_pixel() -> None:
    crop = crops.cut(marked(), Box(30 / 90, 20 / 60, 50 / 90, 40 / 60), 20)
    assert crop.shape == (20, 20, 3)
    assert (crop == (255, 0, 0)).all()


def test_a_box_that_is_not_square_grows_on_its_shorter_side() -> None:
    crop = crops.cut(marked(), Box(20 / 90, 25 / 60, 60 / 90, 35 / 60), 40)
    assert (crop[10:30, 10:30] == (255, 0, 0)).all()
    assert (crop[:8] == 128).all()


def test_outside_the_photo_its_edge_goes_on() -> None:
    photo = np.zeros((40, 40, 3), np.uint8)
    photo[:, 0] = (10, 200, 30)
    crop = crops.cut(photo, Box(-0.5, 0, 0.5, 1), 40)
    assert (crop[:, :20] == (10, 200, 30)).all()
    assert (crop[:, 24:] == 0).all()


@given(sides, sides, places, places, st.floats(0.05, 1.5), st.integers(4, 80))
def test_any_box_gives_a_crop_of_the_side_asked_for(
    height: int, width: int, x: float, y: float, extent: float, side: int
) -> None:
    photo = np.full((height, width, 3), 77, np.uint8)
    crop = crops.cut(photo, Box(x, y, x + extent, y + extent), side)
    assert crop.shape == (side, side, 3)
    assert (crop == 77).all()


@given(sides, sides)
def test_the_middle_is_a_square_within_the_photo(height: int, width: int) -> None:
    box = crops.middle(height, width)
    assert (box.right - box.left) * width == pytest.approx((box.bottom - box.top) * height)
    assert min(box.left, box.top) >= -1e-9
    assert max(box.right, box.bottom) <= 1 + 1e-9


def test_the_centre_of_crops() -> None:
    cut = np.arange(2 * 7 * 7 * 3, dtype=np.uint8).reshape(2, 7, 7, 3)
    np.testing.assert_array_equal(crops.centre(cut, 3), cut[:, 2:5, 2:5])
