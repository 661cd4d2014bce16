from collections.abc import Sequence

import numpy as np
import pytest

from ml.analysis import alignment

PATTERN = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
"""48 pixels of 8 x 8 patches."""


def look(images: np.ndarray) -> np.ndarray:
    """Return the colours of the quarters of each cell, and their squares: [N, H, W, 3] -> [N, H / 16, W / 16, 24]."""
    n, height, width, _ = images.shape
    cells = images.reshape(n, height // 16, 2, 8, width // 16, 2, 8, 3).mean(axis=(3, 6)) / 255 - 0.5
    colours = cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // 16, width // 16, 12)
    return np.concatenate([colours, np.square(colours)], axis=-1)


def scene(seed: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Return a photo of grain with the pattern somewhere in it, mirrored or not, and where its middle is."""
    random = np.random.default_rng(seed)
    coarse = random.integers(90, 160, (12, 16, 3), np.uint8)
    photo = coarse.repeat(8, axis=0).repeat(8, axis=1)
    y, x = random.integers(0, photo.shape[0] - 48), random.integers(0, photo.shape[1] - 48)
    photo[y : y + 48, x : x + 48] = PATTERN[:, :: random.choice((-1, 1))]
    return photo, ((x + 24) / photo.shape[1], (y + 24) / photo.shape[0])


@pytest.fixture(scope="module")
def scenes() -> tuple[list[np.ndarray], np.ndarray]:
    photos, places = zip(*(scene(seed) for seed in range(16)), strict=True)
    return list(photos), np.array(places)


def test_windows_end_where_all_photos_show_the_same(scenes: tuple[list[np.ndarray], np.ndarray]) -> None:
    photos, places = scenes
    # The beginning is as good as a hint of the classifier's: near, not exact.
    hints = places + np.random.default_rng(1).uniform(-0.1, 0.1, places.shape)
    boxes, likeness, _ = alignment.align(photos, [tuple(hint) for hint in hints], look)
    # All show it at one place of the window, which need not be its middle; in a mirrored scene, on the other side.
    away = (boxes[:, :2] + boxes[:, 2:]) / 2 - places
    away[:, 0] = np.abs(away[:, 0])
    assert np.abs(away).max() < 0.2
    assert np.median(np.abs(away - np.median(away, axis=0)).max(axis=1)) < 0.03
    sides = (boxes[:, 2] - boxes[:, 0]) * photos[0].shape[1]
    assert np.std(np.log(sides)) < 0.2
    assert likeness.shape == (16,)
    assert likeness.mean() > 0.5


def test_among_windows_that_are_alike_the_recognised_one_is_chosen() -> None:
    """The left of each photo shows the pattern, and so does the right, with a mark that only the classifier minds."""
    photos = []
    for seed in range(8):
        photo = np.random.default_rng(seed).integers(110, 130, (96, 192, 3), np.uint8)
        photo[24:72, 24:72] = photo[24:72, 120:168] = PATTERN
        photos.append(photo)
    asked = []

    def recognise(shown: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> np.ndarray:
        assert len(shown) == len(boxes)
        asked.append(len(boxes))
        return np.array([0.9 if box[0] + box[2] > 1 else 0.01 for box in boxes])

    hints = [(0.25, 0.5)] * len(photos)
    plain = alignment.align(photos, hints, look).boxes
    minded = alignment.align(photos, hints, look, recognise).boxes
    assert (plain[:, [0, 2]].mean(axis=1) < 0.5).any()
    assert (minded[:, [0, 2]].mean(axis=1) > 0.5).all()
    assert sum(asked) <= alignment.CANDIDATES * len(photos)


def test_the_same_photos_give_the_same_boxes(scenes: tuple[list[np.ndarray], np.ndarray]) -> None:
    photos, _ = scenes
    once, again = (alignment.align(photos[:6], [(0.5, 0.5)] * 6, look) for _ in range(2))
    np.testing.assert_array_equal(once.boxes, again.boxes)


def test_aligned_crops_are_more_alike_than_crops_of_anything() -> None:
    random = np.random.default_rng(2)
    grain = random.integers(0, 40, (12, 64, 64, 3), np.uint8)
    aligned, anything = grain.copy(), grain.copy()
    for crop, other in zip(aligned, anything, strict=True):
        crop[8:56, 8:56] += PATTERN // 2
        y, x = random.integers(0, 16, 2)
        other[y : y + 48, x : x + 48] += np.roll(PATTERN, random.integers(0, 48, 2), axis=(0, 1)) // 2
    assert alignment.likeness(aligned, look) > 0.8
    assert alignment.likeness(anything, look) < 0.5
    mirrored = np.concatenate([aligned[:9], aligned[9:, :, ::-1]])
    assert alignment.likeness(mirrored, look) > 0.7


def test_the_middle_of_heat() -> None:
    heat = np.zeros((10, 20), np.float32)
    assert alignment.middle(heat) == (0.5, 0.5)
    heat[2, 15] = 1
    assert alignment.middle(heat) == pytest.approx((15.5 / 20, 2.5 / 10))
