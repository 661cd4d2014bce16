"""Alignment: in each photo the square window that is most like those of the other photos.

Congealing (Learned-Miller 2006): each photo moves to where it is most like the mean of all others, and again. What is
compared are maps of a frozen network, so light and background count little; mirror images are tried too. Windows that
begin somewhere around an animal end where all show the same of it: mostly its face. Where a classifier says how sure it
is of the animal in a window, alike windows with less of it in them stand back.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Photo = NDArray[np.uint8]
Floats = NDArray[np.floating]

WINDOW, CELL = 128, 16
"""Side in pixels of a window as the network sees it, and of a cell of its map."""
GRID = 4
"""A window is compared by so many averages along each side."""
EXTENTS = (1.0, 0.8, 0.63, 0.5, 0.4)
"""Sides of the windows that are tried, as shares of the photo's shorter side."""
START = 1.0
CHANNELS = 48
"""Most varied directions of the map's channels, which are what is compared."""
ROUNDS = 8
CANDIDATES = 8
"""Windows of a photo that a classifier is asked of: those most alike, apart from each other."""
APART = 0.15
"""Windows are apart if a side differs by such a share, or the place by such a share of a side."""
SURENESS = 0.4
"""What the log of the probability counts beside likeness."""


class Aligned(NamedTuple):
    """What was found for N photos.

    Attributes:
        boxes: left, top, right, bottom as shares of the photo's width and height, float [N, 4].
        likeness: of each window to the mean of the others, cosine, float [N].
        probabilities: that each window shows the animal, float [N]; 1 where no classifier was asked.
    """

    boxes: NDArray[np.floating]
    likeness: NDArray[np.floating]
    probabilities: NDArray[np.floating]


def align(
    photos: Sequence[Photo],
    centres: Sequence[tuple[float, float]],
    look: Callable[[Photo], Floats],
    recognise: Callable[[Sequence[Photo], Sequence[Floats]], Floats] | None = None,
) -> Aligned:
    """Return the windows of two or more photos that are most alike.

    Args:
        photos: uint8 [H, W, 3] of any sizes.
        centres: where to begin in each, as shares of its width and height: the nearer to the animal, the better.
        look: what the network makes of pictures of one size, uint8 [N, H, W, 3] -> float [N, H / 16, W / 16, C].
        recognise: the probabilities from 0 to 1 that N boxes, each in a photo of its own, show the animal, float [N].
    """
    maps = [list(_maps(photo, look)) for photo in photos]
    mean, whitening = _whitening([cells for of_photo in maps for cells, *_ in of_photo])
    windows = [_windows(of_photo, mean, whitening) for of_photo in maps]
    starts = [_nearest(window, centre) for window, centre in zip(windows, centres, strict=True)]
    chosen, alike = _congeal(windows, starts, [0.0] * len(photos))
    probabilities = [np.ones(len(window.boxes)) for window in windows]
    if recognise:
        windows = [window.only(_apart(window, values)) for window, values in zip(windows, alike, strict=True)]
        counts = [len(window.boxes) for window in windows]
        each = [photo for photo, count in zip(photos, counts, strict=True) for _ in range(count)]
        answers = recognise(each, [box for window in windows for box in window.boxes])
        probabilities = np.split(answers, np.cumsum(counts)[:-1])
        sureness = [SURENESS * np.log(np.maximum(values, 1e-3)) for values in probabilities]
        chosen, alike = _congeal(windows, [0] * len(photos), sureness)
    boxes = [window.boxes for window in windows]
    return Aligned(_at(boxes, chosen), _at(alike, chosen), _at(probabilities, chosen))


def likeness(crops: Photo, look: Callable[[Photo], Floats]) -> float:
    """How much crops, uint8 [N, S, S, 3], are alike where they should be: the mean cosine between one and the others.

    Each is taken as it is or mirrored, as is more like the others.
    """
    enlarged = np.stack([np.asarray(Image.fromarray(crop).resize((WINDOW, WINDOW))) for crop in crops])
    maps = [np.asarray(look(images), np.float32) for images in (enlarged, enlarged[:, :, ::-1])]
    mean, whitening = _whitening(maps)
    plain, mirrored = (np.stack([_unit(_averages((one - mean) @ whitening))[0] for one in cells]) for cells in maps)
    others = _others(plain)
    return float(np.maximum((plain * others).sum(axis=1), (mirrored * others).sum(axis=1)).mean())


def middle(heat: Floats) -> tuple[float, float]:
    """Where the centre of a map's heat lies, [H, W] -> shares of its width and height; hot places count by the square.

    Without any heat it is the middle.
    """
    weights = np.square(heat, dtype=np.float64)
    if not weights.any():
        return 0.5, 0.5
    height, width = heat.shape
    x, y = weights.sum(axis=0) @ (np.arange(width) + 0.5), weights.sum(axis=1) @ (np.arange(height) + 0.5)
    return float(x / weights.sum() / width), float(y / weights.sum() / height)


class _Map(NamedTuple):
    cells: Floats
    extent: float
    mirrored: bool
    size: tuple[int, int]
    """Of the photo, enlarged: height and width in pixels."""


class _Windows(NamedTuple):
    shown: NDArray[np.float16]
    """What each of K windows shows, of length 1, [K, D]."""
    boxes: Floats
    starts: NDArray[np.bool_]
    """Those that one may begin with."""

    @property
    def middles(self) -> Floats:
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def only(self, places: list[int]) -> "_Windows":
        return _Windows(self.shown[places], self.boxes[places], self.starts[places])


def _congeal(
    windows: Sequence[_Windows], chosen: list[int], more: Sequence[Floats | float]
) -> tuple[list[int], list[Floats]]:
    """Return the place of the window of each photo that is most like the others', and how alike all its windows are.

    `chosen` are the places to begin with, and `more` is what speaks for windows beside their likeness.
    """
    for _ in range(ROUNDS):
        others = _others(_at([window.shown for window in windows], chosen).astype(np.float32))
        alike = [window.shown.astype(np.float32) @ other for window, other in zip(windows, others, strict=True)]
        before, chosen = chosen, [int((values + extra).argmax()) for values, extra in zip(alike, more, strict=True)]
        if chosen == before:
            break
    return chosen, alike


def _at(values: Sequence[Floats], places: Sequence[int]) -> Floats:
    """Return of each photo's values that at its place."""
    return np.stack([of_photo[place] for of_photo, place in zip(values, places, strict=True)])


def _apart(windows: _Windows, alike: Floats) -> list[int]:
    """Return the places of the windows that are most alike and apart from each other, the most alike first."""
    sides = windows.boxes[:, 2:] - windows.boxes[:, :2]
    left = alike.copy()
    found: list[int] = []
    while len(found) < CANDIDATES and np.isfinite(left).any():
        best = int(left.argmax())
        near = (np.abs(windows.middles - windows.middles[best]) < APART * sides[best]).all(axis=1)
        left[near & (np.abs(sides[:, 0] / sides[best, 0] - 1) < APART)] = -np.inf
        found.append(best)
    return found


def _maps(photo: Photo, look: Callable[[Photo], Floats]) -> Iterator[_Map]:
    """Yield the network's maps of the photo at all extents, and of its mirror image."""
    height, width = photo.shape[:2]
    for extent in EXTENTS:
        scale = WINDOW / (extent * min(height, width))
        size = max(WINDOW, round(height * scale / CELL) * CELL), max(WINDOW, round(width * scale / CELL) * CELL)
        enlarged = np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.BICUBIC))
        plain, mirrored = np.asarray(look(np.stack([enlarged, enlarged[:, ::-1]])), np.float32)
        yield _Map(plain, extent, False, size)
        yield _Map(mirrored, extent, True, size)


def _whitening(maps: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the mean cell [C], and the matrix [C, CHANNELS] after which cells differ equally in all directions."""
    cells = np.concatenate([cells.reshape(-1, cells.shape[-1])[::5] for cells in maps])
    variances, directions = np.linalg.eigh(np.cov(cells.T))
    variances = variances + 1e-2 * variances.mean()
    return cells.mean(axis=0), (directions / np.sqrt(variances))[:, -CHANNELS:].astype(np.float32)


def _windows(maps: Sequence[_Map], mean: Floats, whitening: Floats) -> _Windows:
    shown, boxes, starts = [], [], []
    for cells, extent, mirrored, (height, width) in maps:
        averages = _averages((cells - mean) @ whitening)
        rows, columns = averages.shape[:2]
        shown.append(_unit(averages).astype(np.float16))
        y, x = (np.ravel(axis) * CELL for axis in np.mgrid[:rows, :columns])
        x = width - WINDOW - x if mirrored else x
        boxes.append(np.column_stack([x / width, y / height, (x + WINDOW) / width, (y + WINDOW) / height]))
        starts.append(np.full(rows * columns, extent == START and not mirrored))
    return _Windows(np.concatenate(shown), np.concatenate(boxes).astype(np.float32), np.concatenate(starts))


def _averages(cells: Floats) -> Floats:
    """Return what every window shows, as GRID x GRID averages: [h, w, C] -> [h - 7, w - 7, C, GRID, GRID]."""
    pairs = (cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]) / 4
    every, reach = WINDOW // CELL // GRID, WINDOW // CELL - 1
    return np.lib.stride_tricks.sliding_window_view(pairs, (reach, reach), axis=(0, 1))[..., ::every, ::every]


def _unit(averages: Floats) -> Floats:
    """Return what windows show as rows of length 1: [h, w, ...] -> [h * w, D]."""
    rows = averages.reshape(averages.shape[0] * averages.shape[1], -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _others(shown: Floats) -> Floats:
    """Return for each row the mean of the others, of length 1: so no photo holds on to where it is."""
    others = shown.sum(axis=0) - shown
    return others / np.linalg.norm(others, axis=1, keepdims=True)


def _nearest(windows: _Windows, centre: tuple[float, float]) -> int:
    """Return which of the windows to begin with has its centre nearest to this one."""
    distance = np.square(windows.middles - np.array(centre)).sum(axis=1)
    return int(np.where(windows.starts, distance, np.inf).argmin())
