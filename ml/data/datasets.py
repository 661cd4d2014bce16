"""The photos of an accepted manifest, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data import cache, manifest, mirror, photos, scanning
from ml.errors import DataError

Indices = Sequence[int] | np.ndarray | pd.Index


@dataclass(frozen=True)
class Dataset:
    """One accepted version of one animal's photos."""

    animal: str
    digest: str
    rows: pd.DataFrame
    """The accepted photos, in the order of their hashes: see `ml.data.manifest`."""
    cache: Path

    @cached_property
    def training(self) -> pd.DataFrame:
        """The photos that have a fold; the others are the hold-out."""
        return self.rows[self.rows.fold >= 0]

    def pixels(self, index: int) -> np.ndarray:
        """Return photo `index` of `rows`, uint8 [H, W, 3], from the cache or, if it isn't there, from its file.

        Raises:
            DataError: the file is gone, or has changed since it was validated.
        """
        row = self.rows.iloc[index]
        kept = cache.get_pixels(self.cache, row.sha256)
        return kept if kept is not None else _decode_again(row, self.cache)

    def images(
        self, indices: Indices, height: int, width: int, padding: tuple[int, int, int] | None = None
    ) -> np.ndarray:
        """Return the photos at one size, uint8 [N, height, width, 3]: see `ml.data.photos.resize`."""
        cache.fetch_pixels(self.cache, self.rows.sha256.iloc[np.asarray(indices, int)])
        images = np.empty((len(indices), height, width, 3), np.uint8)
        for place, index in enumerate(indices):
            images[place] = photos.resize(self.pixels(index), height, width, padding)
        return images


def load(animal: str, folder: Path, cache_folder: Path, digest: str | None = None) -> Dataset:
    """Return the dataset version `digest` (default: the accepted one) from the animal's folder of manifests.

    Raises:
        DataError: no version was accepted yet, or there is none of this digest.
    """
    name = digest or manifest.accepted(folder)
    if name is None:
        raise DataError(f"No accepted photos for {animal} yet. Run validate_images first.")
    return Dataset(animal, name, manifest.used_rows(manifest.load(folder, name)), cache_folder)


def _decode_again(row: pd.Series, cache_folder: Path) -> np.ndarray:
    file = mirror.file(f"{row.root}/{row.path}")
    data = file.read_bytes() if file.is_file() else b""
    facts, pixels = photos.inspect(data)
    if pixels is None or scanning.sha256_of(data) != row.sha256:
        received = (facts.problem or "other content") if file.is_file() else "nothing there"
        raise DataError(
            f"Photo {row.path!r} is not what was validated: expected SHA-256 {row.sha256[:16]}… at {file}. "
            f"Received: {received}. Run validate_images again."
        )
    cache.put_pixels(cache_folder, row.sha256, pixels)
    return pixels
