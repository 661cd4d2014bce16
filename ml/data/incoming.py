"""New photos, however many: listed once, then read in their order, a little ahead of whoever takes them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ml.data import photos, scanning
from ml.data.listing import PassedOver, photo_files
from ml.errors import DataError

AHEAD = 96
"""Photos that are decoded before they are asked for."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Canvas(NamedTuple):
    """How a network takes photos: see `ml.data.photos.resize`."""

    height: int
    width: int
    padding: tuple[int, int, int] | None


@dataclass(frozen=True)
class Incoming:
    """A new photo."""

    path: str
    """Below the folder, `/` between folders; what is not UTF-8 is escaped."""
    facts: photos.Facts
    """Without what only a manifest keeps: how bright, sharp and rich in contrast it is."""
    images: tuple[np.ndarray, ...]
    """uint8 [height, width, 3] for each canvas; none where `facts.problem` says why."""


def listing(root: Path, most: int | None = None, seed: int = 0, passed: PassedOver | None = None) -> list[bytes]:
    """Return the paths below `root` of all photos, sorted; if there are more than `most`, so many drawn at random.

    What is passed over is added to `passed`: see `ml.data.listing`.

    Raises:
        DataError: `root` is no folder, holds no photo, or can't be listed.
    """
    if not root.is_dir():
        received = "a file" if root.exists() else "nothing there"
        raise DataError(f"Expected a folder of photos at {root}. Received: {received}.")
    passed = PassedOver() if passed is None else passed
    start = len(os.fsencode(root)) + 1
    # Bytes, as a million paths take half the memory then, and a name may be no UTF-8.
    found = sorted(os.fsencode(path)[start:] for path in photo_files(root, passed))
    if not found:
        raise DataError(
            f"No photo in {root}: expected JPEG, PNG, HEIC or other pictures. "
            f"Received: {passed.sentence() or 'no file'}."
        )
    if most is None or len(found) <= most:
        return found
    drawn = np.random.default_rng(seed).choice(len(found), most, replace=False)
    return [found[place] for place in sorted(drawn)]


def arriving(root: Path, names: Iterable[bytes], canvases: Sequence[Canvas]) -> Iterator[Incoming]:
    """Yield the photos of these names in their order, at most `AHEAD` of them read in advance."""
    # One core is left to whoever takes the photos.
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="decode") as pool:
        yield from _in_order(pool, lambda name: read(root, name, canvases), names)


def read(root: Path, name: bytes, canvases: Sequence[Canvas]) -> Incoming:
    """Return one photo; what is wrong with it is said in its facts, and nothing is raised."""
    path = name.decode(errors="backslashreplace")
    facts, image = _decoded(root / os.fsdecode(name))
    if image is None:
        return Incoming(path, facts, ())
    images = tuple(photos.fit(image, *canvas) for canvas in canvases)
    return Incoming(path, photos.fingerprint(image, facts), images)


def _decoded(path: Path) -> tuple[photos.Facts, Image.Image | None]:
    if not os.path.lexists(path):
        return photos.Facts("it is not there any more"), None
    try:
        if problem := scanning.unfit(path):
            return photos.Facts(problem), None
        return photos.decode(path.read_bytes())
    except OSError as error:
        return photos.Facts(f"it can't be read: {error.strerror}"), None


def _in_order(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # whoever takes them may have had enough
        for future in waiting:
            future.cancel()
