"""Files that are whole or absent: written aside, then renamed."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ml.data import store
from ml.errors import StorageError

DAY = 24 * 60 * 60


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place when the block ends well.

    What machines share through an object store is put there first: see `ml.data.store`.

    Raises:
        StorageError: the disk is full, the folder can't be written, or the store doesn't take it.
    """
    aside = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        store.keep(aside, path)
        os.replace(aside, path)
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. Nothing was changed. "
            "Make room or mend the rights, then retry."
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, from the store that machines share too."""
    shutil.rmtree(folder, ignore_errors=True)
    store.remove(folder)


def remove_unused(parent: Path, days: float) -> list[Path]:
    """Remove the folders in `parent` in which nothing was written for so many days; return them."""
    if not parent.is_dir():
        return []
    unused = [folder for folder in parent.iterdir() if folder.is_dir() and time.time() - _written(folder) > days * DAY]
    for folder in unused:
        remove(folder)
    return unused


def _written(folder: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970; now, if it is being changed."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return time.time()
