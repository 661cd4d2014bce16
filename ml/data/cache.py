"""What was computed once and is not computed again: decoded pixels, features and inner maps of frozen backbones.

All are addressed by the photo's SHA-256, so that renamed, copied and shared photos cost nothing. Any file of the cache
may be deleted; it is made again. What another machine has put into the store that both share is not computed here.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from ml import fingerprint
from ml.data import store
from ml.data.files import replacing

PART = 512
"""Most photos whose maps are computed, and kept, at a time: what a killed task loses."""


def decoded(folder: Path) -> Path:
    """Return where what decoding makes of photos is kept: it changes with the code and the libraries that decode."""
    return folder / f"decoded-{fingerprint.of('ml.data.photos')}"


def put_pixels(folder: Path, sha256: str, pixels: np.ndarray) -> None:
    """Keep a decoded photo, uint8 [H, W, 3]."""
    with replacing(_pixels_file(folder, sha256)) as aside:
        np.save(aside, pixels)


def kept_pixels(folder: Path) -> set[str]:
    """Return the hashes of the photos whose pixels are kept, for all machines if there are several."""
    pixels = decoded(folder) / "pixels"
    shared = store.names(pixels)
    return {Path(name).stem for name in (pixels.glob("*/*.npy") if shared is None else shared)}


def fetch_pixels(folder: Path, sha256: Iterable[str]) -> None:
    """Bring here, many at a time, the pixels that other machines keep of these photos."""
    store.fetch(*(_pixels_file(folder, name) for name in sha256))


def get_pixels(folder: Path, sha256: str) -> np.ndarray | None:
    """Return the decoded photo, uint8 [H, W, 3], or `None` if it isn't kept."""
    file = _pixels_file(folder, sha256)
    store.fetch(file)
    try:
        return np.load(file)
    except (FileNotFoundError, ValueError, EOFError):
        return None


def features(folder: Path, sha256: Sequence[str], compute: Callable[[list[int]], np.ndarray]) -> np.ndarray:
    """Return the features of N photos, float32 [N, D], computing only those that `folder` lacks.

    `compute` gets the indices of the photos to compute, ascending, and returns their rows. Each call adds one file; a
    lock makes a second process on this machine wait for the first one's rows instead of computing them too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        store.fetch_folder(folder)
        kept: dict[str, np.ndarray] = {}
        for part in sorted(folder.glob("*.npz")):
            kept |= _rows_of(part)
        missing = [index for index, name in enumerate(sha256) if name not in kept]
        if missing:
            rows = np.asarray(compute(missing), np.float32)
            names = [sha256[index] for index in missing]
            computed = dict(zip(names, rows, strict=True))
            with replacing(folder / f"{len(kept):09d}-{names[0][:16]}.npz") as aside:
                np.savez(aside, sha256=np.array(names), features=rows)
            kept |= computed
    return np.stack([kept[name] for name in sha256])


def maps(folder: Path, sha256: Sequence[str], compute: Callable[[list[int], int], np.ndarray]) -> list[np.ndarray]:
    """Return a long row for each of N photos, float16 [K], computing only those that `folder` lacks.

    The rows stay in their files until they are read, so that there may be more of them than memory. `compute` is called
    for at most `PART` photos at a time, and told how many come later; each call adds one file. Otherwise as `features`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        store.fetch_folder(folder)
        kept: dict[str, np.ndarray] = {}
        for part in sorted(folder.glob("*.npy")):
            kept |= _mapped(part)
        missing = [index for index, name in enumerate(sha256) if name not in kept]
        for start in range(0, len(missing), PART):
            indices = missing[start : start + PART]
            rows = np.asarray(compute(indices, len(missing) - start - len(indices)), np.float16)
            table = np.empty(len(rows), [("sha256", "U64"), ("row", np.float16, rows.shape[1:])])
            table["sha256"], table["row"] = [sha256[index] for index in indices], rows
            part = folder / f"{len(kept):09d}-{sha256[indices[0]][:16]}.npy"
            with replacing(part) as aside:
                np.save(aside, table)
            kept |= _mapped(part)
    return [kept[name] for name in sha256]


def _mapped(part: Path) -> dict[str, np.ndarray]:
    """Return the rows of one file by hash, still in the file; none if a crash cut it short."""
    try:
        table = np.load(part, mmap_mode="r")
        return dict(zip(table["sha256"].tolist(), table["row"], strict=True))
    except (EOFError, ValueError, IndexError):
        return {}


def _rows_of(part: Path) -> dict[str, np.ndarray]:
    """Return the rows of one file by hash; none if a crash cut it short, so that they are computed again."""
    try:
        with np.load(part) as stored:
            return dict(zip(stored["sha256"].tolist(), stored["features"], strict=True))
    except (EOFError, ValueError, KeyError, BadZipFile):
        return {}


def _pixels_file(folder: Path, sha256: str) -> Path:
    return decoded(folder) / "pixels" / sha256[:2] / f"{sha256}.npy"
