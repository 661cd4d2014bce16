"""Networks in MLflow: Keras's own files, loaded without running anything that lies beside or in them."""

import hashlib
import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ml.errors import LostError

if TYPE_CHECKING:
    import keras

LARGEST = 2 * 1024**3
"""Bytes of a network, packed and unpacked; the largest that Menagerie makes has a quarter of it."""

log = logging.getLogger(__name__)


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def load(file: Path, expected: str | None, what: str, remedy: str) -> "keras.Model":
    """Load a `.keras` file in safe mode, which runs no code of it, after comparing its SHA-256 with the `expected` one.

    `what` and `remedy` name it, and what to do if it can't be used, in messages. Without `expected`, a warning says
    that it wasn't compared.

    Raises:
        LostError: the file is damaged, was replaced, is too large, or is none that Keras loads in safe mode.
    """
    problem = _problem(file, expected)
    if problem:
        raise LostError(f"{what} can't be used: {problem} {remedy}")
    if expected is None:
        log.warning(
            "%s has no tag sha256: whether its file is still as it was registered can't be told. It is loaded in safe "
            "mode, which runs no code. %s",
            what,
            remedy,
        )
    import keras

    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        raise LostError(
            f"{what} can't be used: Keras doesn't load {file.name} in safe mode. Received: "
            f"{type(error).__name__}: {str(error)[:500]} {remedy}"
        ) from error


def _problem(file: Path, expected: str | None) -> str | None:
    if file.is_symlink() or not file.is_file():
        return f"expected a file {file.name}. Received: something else."
    if file.stat().st_size > LARGEST:
        return f"expected a file {file.name} of at most {LARGEST:,} bytes. Received: {file.stat().st_size:,}."
    if expected is not None and (found := checksum(file)) != expected:
        return f"expected {file.name} with the SHA-256 {expected}. Received: {found}: it was damaged or replaced."
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        return f"expected {file.name} to be a file of Keras, a zip archive. Received: {error}."
    if unpacked > LARGEST:
        return f"expected {file.name} to unpack to at most {LARGEST:,} bytes. Received: {unpacked:,}."
    return None
