"""Square crops of photos around their animal: where boxes come from, and how a crop is cut."""

import codecs
import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ml.errors import DataError

BOXES = "boxes.csv"
COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax")
SAVE = "Save it as CSV in UTF-8 (in Excel: CSV UTF-8)."


@dataclass(frozen=True)
class Box:
    """A rectangle on a photo; 0 to 1 of its width and height, and a little outside where it reaches over the edge."""

    left: float
    top: float
    right: float
    bottom: float


def read_boxes(file: Path) -> dict[str, Box]:
    """Return the boxes of a table with the columns file, xmin, ymin, xmax, ymax, by the photos' file names.

    Tables as Excel and editors save them are read too: with a byte order mark, in UTF-16, with semicolons or tabs
    between the columns, with commas in the numbers, with blanks around the values.

    Raises:
        DataError: the table is no text in UTF-8, a column is missing, or a line has no box on the photo.
    """
    text = _text(file)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
    if missing := set(COLUMNS) - set(table.fieldnames):
        raise DataError(
            f"{file}, line 1: expected the columns {', '.join(COLUMNS)}. Missing: {', '.join(sorted(missing))}. "
            f"Received: {head.strip()[:200]!r}. {SAVE}"
        )
    return {(line["file"] or "").strip(): _box(file, table.line_num, line) for line in table}


def _text(file: Path) -> str:
    data = file.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, line {number}: expected text in UTF-8. Received another encoding (Latin-1?). {SAVE}"
        ) from error


def square(box: Box, height: int, width: int) -> Box:
    """Return the square of pixels with the box's centre and its longer side, on a photo of this size in pixels."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    side = max((box.right - box.left) * width, (box.bottom - box.top) * height)
    return Box(x - side / width / 2, y - side / height / 2, x + side / width / 2, y + side / height / 2)


def middle(height: int, width: int) -> Box:
    """Return the largest square in the middle of a photo of this size in pixels."""
    x, y = min(height, width) / width / 2, min(height, width) / height / 2
    return Box(0.5 - x, 0.5 - y, 0.5 + x, 0.5 + y)


def cut(photo: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Return what is in the box, squared, uint8 [H, W, 3] -> uint8 [side, side, 3] (bicubic, antialiased).

    Outside the photo its edge goes on.
    """
    height, width = photo.shape[:2]
    box = square(box, height, width)
    left, top, right, bottom = box.left * width, box.top * height, box.right * width, box.bottom * height
    before = [max(0, math.ceil(-top)), max(0, math.ceil(-left))]
    after = [max(0, math.ceil(bottom - height)), max(0, math.ceil(right - width))]
    padded = np.pad(photo, [*zip(before, after, strict=True), (0, 0)], mode="edge")
    window = (left + before[1], top + before[0], right + before[1], bottom + before[0])
    return np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC, box=window))


def centre(crops: np.ndarray, side: int) -> np.ndarray:
    """Return the windows of this side in the middle of crops, [N, S, S, 3] -> [N, side, side, 3]."""
    start = (crops.shape[1] - side) // 2
    return np.ascontiguousarray(crops[:, start : start + side, start : start + side])


def _box(file: Path, number: int, line: dict[str, str]) -> Box:
    try:
        box = Box(*(float(line[name].replace(",", ".")) for name in COLUMNS[1:]))
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}, line {number}: expected four numbers. Received: {line}") from error
    if not (
        box.left < box.right
        and box.top < box.bottom
        and box.left < 1
        and box.top < 1
        and box.right > 0
        and box.bottom > 0
    ):
        raise DataError(
            f"{file}, line {number}: expected xmin < xmax and ymin < ymax, 0 to 1 of the photo's width and height, "
            f"and a part of the photo inside. Received: {line}"
        )
    return box
