"""What ties real photos: copies and moved views of the same one, and no strangers; and what the search costs."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps
from threadpoolctl import threadpool_limits

from ml.data import photos as decoding
from ml.data.near_duplicates import Fingerprints, near_duplicate_groups

pytestmark = pytest.mark.benchmark
MOST = 500


def _crop(photo: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cut these shares of width and height off the four sides."""
    width, height = photo.size
    return photo.crop(
        (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def _jpeg(photo: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def _view(photo: Image.Image, moved: float) -> Image.Image:
    """Return a view of four fifths of the width, moved to the right by a share of its own width."""
    return _crop(photo, 0.02 + 0.8 * moved, 0.1, 0.18 - 0.8 * moved, 0.1)


CHANGES: dict[str, tuple[float, Callable[[Image.Image], Image.Image]]] = {
    "compressed": (0.99, lambda photo: _jpeg(photo, 25)),
    "half the size": (0.99, lambda photo: photo.resize((photo.width // 2, photo.height // 2))),
    "brighter": (0.99, lambda photo: ImageEnhance.Brightness(photo).enhance(1.3)),
    "darker": (0.99, lambda photo: ImageEnhance.Brightness(photo).enhance(0.3)),
    "half the contrast": (0.99, lambda photo: ImageEnhance.Contrast(photo).enhance(0.5)),
    "grey": (0.99, lambda photo: photo.convert("L")),
    "5 % cut off all around": (0.99, lambda photo: _crop(photo, 0.05, 0.05, 0.05, 0.05)),
    "10 % cut off the left": (0.95, lambda photo: _crop(photo, 0.1, 0, 0, 0)),
    "10 % cut off all around": (0, lambda photo: _crop(photo, 0.1, 0.1, 0.1, 0.1)),
    "mirrored": (0.99, ImageOps.mirror),
    "view moved by 3 %": (0.99, lambda photo: _view(photo, 0.03)),
    "view moved by 6 %": (0.9, lambda photo: _view(photo, 0.06)),
    "view moved by 9 %": (0, lambda photo: _view(photo, 0.09)),
    "view moved by 12 %": (0, lambda photo: _view(photo, 0.12)),
}
"""Each with the share of the photos that must be tied with their changed copy; 0 is only measured."""


def _fingerprints(pictures: list[Image.Image]) -> Fingerprints:
    facts = [decoding.fingerprint(picture.convert("RGB"), decoding.Facts(None)) for picture in pictures]
    return Fingerprints.of(
        pd.DataFrame({"look": [one.look for one in facts], "thumbnail": [one.thumbnail for one in facts]})
    )


def _both(first: Fingerprints, second: Fingerprints) -> Fingerprints:
    return Fingerprints(
        np.concatenate([first.looks, second.looks]), np.concatenate([first.thumbnails, second.thumbnails])
    )


def _names(count: int) -> list[str]:
    return [f"{place:08d}" * 8 for place in range(count)]


def test_changed_copies_are_tied_and_strangers_are_not(photos: Path) -> None:
    random = np.random.default_rng(0)
    files = sorted(photos.glob("*/*.*"))
    drawn = [decoding.inspect(file.read_bytes())[1] for file in random.permutation(files)[:MOST]]
    originals = [Image.fromarray(pixels) for pixels in drawn if pixels is not None]
    whole, views = _fingerprints(originals), _fingerprints([_view(original, 0) for original in originals])
    count, lines = len(originals), []
    for change, (fewest, apply) in CHANGES.items():
        before = views if change.startswith("view") else whole
        changed = _fingerprints([apply(original) for original in originals])
        alone = len(set(near_duplicate_groups(_names(count), before)))
        groups = near_duplicate_groups(_names(2 * count), _both(before, changed))
        tied = np.mean([mine == copy for mine, copy in zip(groups[:count], groups[count:], strict=True)])
        lines.append((change, tied, fewest, alone - len(set(groups[:count]))))
    table = pd.DataFrame(lines, columns=["change", "tied", "at least", "strangers tied by it"])
    print(f"\n{table.to_string(index=False)}")
    assert (table.tied >= table["at least"]).all()
    assert table["strangers tied by it"].sum() <= 2


def test_near_duplicates_of_many_photos_take_little_more_than_the_bare_product() -> None:
    """Pairs of strangers cost at most five times a matrix product of 35 columns: they are compared mirrored, too."""
    random = np.random.default_rng(0)
    looks = random.integers(0, 256, (20_000, 1024), np.uint8)
    fingerprints = Fingerprints(looks, random.integers(0, 256, (20_000, 192), np.uint8))
    names = [f"{place:05d}" * 13 for place in range(20_000)]
    vectors = random.normal(size=(20_000, 35)).astype(np.float32)
    with threadpool_limits(1):
        started = time.process_time()
        for start in range(0, 20_000, 256):
            (vectors[start : start + 256] @ vectors[: start + 256].T).max()
        bare = time.process_time() - started
        started = time.process_time()
        near_duplicate_groups(names[:2000], fingerprints[np.arange(2000)])
        few = time.process_time() - started
        started = time.process_time()
        near_duplicate_groups(names, fingerprints)
        many = time.process_time() - started
    bare_ns, all_ns, pairs_ns = (seconds / (20_000**2 / 2) * 1e9 for seconds in (bare, many, many - 10 * few))
    print(f"\nbare {bare_ns:.2f} ns a pair, all {all_ns:.2f}, without what photos cost {pairs_ns:.2f}")
    assert many - 10 * few <= 5 * bare
