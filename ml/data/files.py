"""Files that are whole or absent: written aside, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ml.errors import StorageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place when the block ends well.

    Raises:
        StorageError: the disk is full, or the folder can't be written.
    """
    aside = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. Nothing was changed. "
            "Make room or mend the rights, then retry."
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
