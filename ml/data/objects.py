"""Addresses in an object store, by fsspec: `s3://bucket/folder`, `gs://bucket/folder`.

An object appears whole or not at all. Credentials and endpoints are read by the driver from its own variables.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from os import replace, utime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ml.errors import ParameterError, StorageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

AT_ONCE = 16
"""Objects that are brought at a time."""


@dataclass(frozen=True)
class Found:
    """What a listing says of an object."""

    size: int
    modified: int
    """When it was written, in nanoseconds since 1970, to the millisecond; 0 if the driver doesn't know."""


@dataclass(frozen=True)
class Place:
    """Where an object is, or a folder: all objects whose names begin with it and a slash.

    Whatever fails raises a `StorageError` that names the place.
    """

    url: str
    driver: "AbstractFileSystem"
    path: str

    @classmethod
    def at(cls, url: str) -> "Place":
        """Return the place that `url` names.

        Raises:
            ParameterError: fsspec knows no such addresses, or their driver is not installed.
        """
        import fsspec

        try:
            # Others write here too: a listing is true only when it is made.
            driver = fsspec.filesystem(url.partition("://")[0], use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ParameterError(
                f"{url} can't be used: {error}. Expected s3://… with the extra s3 installed (pip install '.[s3]' in "
                "the checkout), gs://… with the extra gs, or another address that fsspec has a driver for."
            ) from error
        return cls(url, driver, driver._strip_protocol(url))

    def below(self, name: str) -> "Place":
        return Place(f"{self.url}/{name}", self.driver, f"{self.path}/{name}")

    def put(self, file: Path) -> None:
        """Put a file there, in place of what was there."""
        with self._failing("put there"):
            self.driver.put_file(str(file), self.path)

    def bring(self, file: Path, modified: int = 0) -> None:
        """Make `file` the object, with its time if that is given. If there is none, `file` stays as it is."""
        aside = file.with_name(f".{uuid4().hex}{file.suffix}")
        try:
            with self._failing("brought here"), suppress(FileNotFoundError):
                file.parent.mkdir(parents=True, exist_ok=True)
                self.driver.get_file(self.path, str(aside))
                if modified:
                    utime(aside, ns=(modified, modified))
                replace(aside, file)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the object, or the folder and all in it, if there is one."""
        with self._failing("removed"), suppress(FileNotFoundError):
            self.driver.rm(self.path, recursive=True)

    def listing(self) -> dict[str, Found]:
        """Return the objects in a folder, by their names below it; hidden ones, and those in `..`, are passed over."""
        found: dict[str, Any] = {}
        with self._failing("listed"), suppress(FileNotFoundError):
            found = self.driver.find(self.path, detail=True)
        start = f"{self.path}/"
        names = {path.removeprefix(start): info for path, info in found.items() if path.startswith(start)}
        return {
            name: Found(info["size"], _modified(info))
            for name, info in names.items()
            if not any(part[:1] in ("", ".") for part in name.split("/"))
        }

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each driver has errors of its own
            raise StorageError(
                f"{self.url} could not be {what}: {str(error) or type(error).__name__}. Check the address, the network "
                "and the credentials (AWS_…, GOOGLE_APPLICATION_CREDENTIALS), then retry."
            ) from error


def bring_all(objects: Iterable[tuple[Place, Path, int]], progress: Callable[[int], None] = lambda done: None) -> None:
    """Bring each place into its file, `AT_ONCE` at a time; `progress` is told how many were."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bring") as pool:
        for done, _ in enumerate(pool.map(lambda one: one[0].bring(*one[1:]), objects), start=1):
            progress(done)


def _modified(info: dict[str, Any]) -> int:
    """Return the time in what a driver says of an object: s3fs, gcsfs and others have names of their own for it."""
    time = info.get("LastModified") or info.get("mtime") or info.get("last_modified")
    return round(time.timestamp() * 1000) * 1_000_000 if isinstance(time, datetime) else 0
