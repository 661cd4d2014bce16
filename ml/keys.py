"""Files that only their owner may read: the home folder, and the keys and passwords in it."""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ml.errors import ParameterError, StorageError


def make_home(home: Path) -> None:
    """Make the folder `home`, or take it as it is, and close it to other accounts of the machine (mode 0700).

    Raises:
        ParameterError: its path has a `?`, `#` or `$`, which Airflow and MLflow read as part of a URL or a variable.
        StorageError: it can't be made or written to.
    """
    if set("?#$\n") & set(str(home)):
        raise ParameterError(
            "MENAGERIE_HOME must have no ?, no # and no $ in its path: Airflow and MLflow read them as part of a URL "
            f"or a variable. Received: {home}"
        )
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = home.stat()
        # A folder that everybody may make files in, such as /tmp, stays theirs.
        if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:
            home.chmod(0o700)
    except OSError as error:
        raise StorageError(f"Expected a folder to write to at MENAGERIE_HOME={home}. Received: {error}") from error
    if not os.access(home, os.W_OK | os.X_OK, effective_ids=True):
        raise StorageError(f"Expected a folder to write to at MENAGERIE_HOME={home}. Received: one that is read-only.")


def database_url(file: Path) -> str:
    """Return the URL of an SQLite database; in one, `%20` would be a blank."""
    return f"sqlite:///{str(file).replace('%', '%25')}"


def kept(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return the secrets in the file `path` (mode 0600); the first caller makes them.

    Raises:
        StorageError: the file can't be written, or what it holds is damaged. New secrets are never made in its place:
            what was encrypted or registered with the old ones would be lost.
    """
    try:
        if not path.exists():
            _write_once(path, json.dumps(make()))
        text = path.read_text()
    except OSError as error:
        raise StorageError(f"Expected to keep secrets in {path}. Received: {error}") from error
    with suppress(ValueError):
        secrets = json.loads(text)
        if isinstance(secrets, dict) and secrets:
            return secrets
    raise StorageError(
        f"Expected secrets as JSON in {path}. Received: a damaged file of {len(text)} characters. Restore it from a "
        "backup, or remove it: then new ones are made, and everybody has to log in again."
    )


def _write_once(path: Path, text: str) -> None:
    """Write a file unless another process was first; a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
