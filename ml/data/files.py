"""Files that are whole or absent: written aside, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml.errors import StorageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place when the block ends well.

    Raises:
        StorageError: the disk is full, or the folder can't be written.
    """
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        aside = Path(name)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. Nothing was changed. Make room or mend the rights, then retry."
        ) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
