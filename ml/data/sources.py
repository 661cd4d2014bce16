"""Where photos come from: downloads that resume, and the archive of the course that the animals come from."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from filelock import FileLock

from ml.data.archives import check_vacant, unpack
from ml.errors import DataError, NoRetryError, ParameterError, ServiceError, StorageError

COURSE_SET_URL = "https://www.lirmm.fr/~poncelet/Ressources/Tiger-Fox-Elephant.zip"
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
BY_HAND = "download it with a browser and pass the file in place of the URL"

Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and, where the server tells it, the size of the whole file."""


def fetch_photos(source: str, root: Path, cache: Path, progress: Progress | None = None) -> Path:
    """Unpack the archive `source` into the new folder `root`, and return `root`.

    Args:
        source: the URL of an archive, which is downloaded and kept below `cache`; or the path of one here.

    Raises:
        the errors of `download` and of `unpack`.
    """
    check_vacant(root)
    if "://" not in source:
        return unpack(Path(source).expanduser(), root)
    name = Path(urlsplit(source).path).name
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    return unpack(download(source, cache / f"{digest}-{name[-100:]}", progress), root)


def download(
    url: str,
    target: Path,
    progress: Progress | None = None,
    expected_sha256: str | None = None,
    *,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Fetch `url` into the file `target`, and return `target`; one that is there already is taken as it is.

    What arrives is kept beside `target` until it is whole. A transfer that breaks off is resumed there by the
    next attempt or the next call (Range and If-Range: RFC 9110, sections 14 and 13.1.5). Where the file has
    changed on the server, or the server can't resume, it starts over.

    Args:
        attempts: how many requests are made before giving up.
        pause: seconds before the second request; doubled before each further one.

    Raises:
        ServiceError: no connection, or the transfer kept breaking off. Calling again resumes.
        NoRetryError: the server has no such file, or doesn't give it.
        DataError: the file is not the one of `expected_sha256`.
        ParameterError: `url` is not an http or https URL.
        StorageError: the disk is full, or can't be written.
    """
    _check_url(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not (target.is_file() and _matches(target, expected_sha256)):
                part = _Part(url, target.with_name(f"{target.name}.part"))
                _complete(part, progress, attempts, pause)
                if not _matches(part.path, expected_sha256):
                    raise _rejected(part, expected_sha256)
                os.replace(part.path, target)
                part.note.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not write {target}: {error.strerror or error}. Make room or mend the rights, then retry."
        ) from error
    return target


class _BrokenOffError(Exception):
    """A request gave less than the whole file; another one may give the rest."""


@dataclass
class _Part:
    """The beginning of a file, and beside it a note of which version it is the beginning of."""

    url: str
    path: Path
    total: int | None = None

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str | None:
        """The validator of the version that was begun; None where there is nothing to resume."""
        try:
            noted = json.loads(self.note.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return noted["version"] if self.size and noted["url"] == self.url else None

    def restart(self, version: str | None) -> None:
        self.note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if version:
            self.note.write_text(json.dumps({"url": self.url, "version": version}))


def _complete(part: _Part, progress: Progress | None, attempts: int, pause: float) -> None:
    headers = {"Accept-Encoding": "identity"}  # sizes and ranges count the bytes that are kept
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT, headers=headers) as client:
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                return _request(client, part, progress)
            except (httpx.RequestError, _BrokenOffError) as error:
                failure = error
    of_total = f" of {part.total:,}" if part.total is not None else ""
    again = "running it again resumes there" if part.version else "run it again"
    raise ServiceError(
        f"The download of {part.url} broke off {attempts} times, with {part.size:,}{of_total} bytes here: "
        f"{str(failure) or type(failure).__name__}. Check the connection; {again}. Or {BY_HAND}."
    ) from failure


def _request(client: httpx.Client, part: _Part, progress: Progress | None) -> None:
    """Ask for what `part` lacks, and append it."""
    asked = {"Range": f"bytes={part.size}-", "If-Range": part.version} if part.version else {}
    with client.stream("GET", part.url, headers=asked) as response:
        part.total = _begin(part, response)
        size = part.size
        with part.path.open("ab") as file:
            for chunk in response.iter_raw():
                size += file.write(chunk)
                if progress:
                    progress(size, part.total)
    if part.total not in (None, size):
        raise _BrokenOffError(f"the server ended the transfer at {size:,} bytes")


def _begin(part: _Part, response: httpx.Response) -> int | None:
    """Make `part` ready for the body of `response`, and return the size of the whole file."""
    version = _version(response)
    if response.status_code == HTTPStatus.OK:
        part.restart(version)
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    if response.status_code in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match and int(match[1]) == part.size and version in (None, part.version):
            return int(match[2])
        part.restart(None)
        raise _BrokenOffError("the server can't resume this file, or it has changed there")
    answer = f"{response.status_code} {response.reason_phrase}"
    if response.is_server_error or response.status_code in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    ):
        raise _BrokenOffError(f"the server answered {answer}")
    raise NoRetryError(f"{part.url} was not given: the server answered {answer}. Check the URL, or {BY_HAND}.")


def _version(response: httpx.Response) -> str | None:
    """The response's validator, if it tells one byte from another (weak ETags don't)."""
    etag: str | None = response.headers.get("ETag")
    modified: str | None = response.headers.get("Last-Modified")
    return etag if etag and not etag.startswith("W/") else modified


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise ParameterError(f"A download needs a URL with https:// or http:// and a host. Received: {url!r}")


def _rejected(part: _Part, expected_sha256: str | None) -> DataError:
    received = _sha256(part.path)
    part.note.unlink(missing_ok=True)
    part.path.unlink()
    return DataError(
        f"{part.url} is not the file that was expected: its SHA-256 should be {expected_sha256}. "
        f"Received: {received}. It may have been replaced; nothing of it was kept."
    )


def _matches(path: Path, expected_sha256: str | None) -> bool:
    return expected_sha256 is None or _sha256(path) == expected_sha256.lower()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
