"""Archives of photos, unpacked as if a stranger had packed them."""

import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple, Self, cast

from filelock import FileLock

from ml.errors import DataError, ParameterError, StorageError

CHUNK = 1 << 20
# Below this no ratio is suspicious: a few flat drawings compress as well as a bomb does.
HARMLESS_BYTES = 16 << 20
MAX_HEADER = 1 << 20
HELD = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
JUNK = {"__macosx", ".ds_store", "thumbs.db"}
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    EOFError,
    OSError,
    NotImplementedError,  # zip: a later version of the format
    RecursionError,  # tar: headers of headers of headers
)


def unpack(
    archive: Path, root: Path, *, max_bytes: int = 4 << 30, max_files: int = 200_000, max_ratio: float = 100.0
) -> Path:
    """Unpack a zip or a tar (plain, gz or xz) of photos into the new folder `root`, and return `root`.

    A sole top folder that holds folders is left out (`Photos/tiger/x.jpg` becomes `tiger/x.jpg`), and so is
    what macOS and Windows add (`__MACOSX`, `.DS_Store`, `._*`, `Thumbs.db`). `root` appears whole or not at
    all.

    Args:
        max_bytes: how much may come out, counted as it is decompressed, whatever the archive claims (a tar
            with its headers).
        max_files: how many entries, folders included.
        max_ratio: how many bytes may come out for each byte of archive, once they exceed 16 MiB.

    Raises:
        DataError: the archive is missing, damaged, encrypted or too large, or holds anything but folders and
            plain files with distinct names inside of it.
        ParameterError: `root` exists.
        StorageError: the disk is full, or can't be written.
    """
    limit = int(min(max_bytes, max(max_ratio * _size(archive), HARMLESS_BYTES)))
    staging = root.with_name(f"{root.name}.unpacking")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{staging}.lock"):
            check_vacant(root)
            shutil.rmtree(staging, ignore_errors=True)  # what a killed process left
            try:
                _write(archive, staging, _Allowance(archive, limit, max_files))
                _unwrapped(staging).rename(root)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"Could not unpack {archive} into {root}: {error.strerror or error}. Nothing was left there. "
            f"Make room or mend the rights, then retry."
        ) from error
    return root


def check_vacant(root: Path) -> None:
    """Raise ParameterError if something is at `root` already."""
    if os.path.lexists(root):
        raise ParameterError(
            f"{root} exists already, and photos are unpacked into a new folder only. "
            f"Name another folder, or move that one away."
        )


class Entry(NamedTuple):
    name: str
    is_folder: bool
    content: Iterator[bytes]


@dataclass
class _Allowance:
    """How much an archive may give, and how much it has given."""

    archive: Path
    max_bytes: int
    max_entries: int
    taken: int = 0
    entries: int = 0

    def take(self, chunk: bytes) -> bytes:
        self.taken += len(chunk)
        if self.taken > self.max_bytes:
            raise self._excess(f"{self.max_bytes:,} bytes")
        return chunk

    def take_entry(self) -> None:
        self.entries += 1
        if self.entries > self.max_entries:
            raise self._excess(f"{self.max_entries:,} files and folders")

    def _excess(self, limit: str) -> DataError:
        return DataError(
            f"{self.archive} was not unpacked: it gives more than {limit}, the most that is taken from an "
            f"archive of {_size(self.archive):,} bytes. If it is what you want, unpack it with another tool."
        )


def _write(archive: Path, folder: Path, allowance: _Allowance) -> None:
    folder.mkdir()
    empty = True
    for name, is_folder, content in _entries(archive, allowance):
        parts = _safe_parts(archive, name)
        if any(part.lower() in JUNK or part.startswith("._") for part in parts):
            continue
        path = folder.joinpath(*parts)
        try:
            (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
            if not is_folder:
                with path.open("xb") as file:
                    file.writelines(content)
                empty = False
        except (FileExistsError, NotADirectoryError) as error:
            raise _refusal(archive, name, "has the name of another one") from error
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
                raise _refusal(archive, name, "has a name that this disk can't hold") from error
            raise
    if empty:
        raise DataError(f"{archive} holds no files.")


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The steps from the new folder to the entry, none of which leads out of it on any system."""
    parts = PurePosixPath(name).parts
    leads_out = name.startswith("/") or ".." in parts or any(PureWindowsPath(part).drive for part in parts)
    if leads_out or "\\" in name or "\0" in name:
        raise _refusal(archive, name, "has a name that could lead out of its folder")
    return parts


def _unwrapped(folder: Path) -> Path:
    """The sole folder in `folder`, where it holds folders (with photos it is a class), or else `folder`."""
    first, *others = folder.iterdir()
    wraps = not others and first.is_dir() and any(child.is_dir() for child in first.iterdir())
    return first if wraps else folder


def _entries(archive: Path, allowance: _Allowance) -> Iterator[Entry]:
    """Yield what the archive holds; the content of each is to be read before the next."""
    with _reading(archive), archive.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(b"PK"):
            yield from _zip_entries(archive, file, allowance)
        else:
            yield from _tar_entries(archive, file, start, allowance)


def _zip_entries(archive: Path, file: IO[bytes], allowance: _Allowance) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            allowance.take_entry()
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, info.filename, "is a link or a device")
            if info.flag_bits & 0x1:
                raise _refusal(archive, info.filename, "is encrypted")
            # Zipfile decompresses the other methods without a bound on memory.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refusal(archive, info.filename, "is compressed by another method than deflate")
            with opened.open(info) as stream:
                yield Entry(info.orig_filename, info.is_dir(), _chunks(archive, _Metered(stream, allowance)))


def _tar_entries(archive: Path, file: IO[bytes], start: bytes, allowance: _Allowance) -> Iterator[Entry]:
    openers: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open}
    opener = openers.get(start[:2])
    stream = _Metered(opener(file) if opener else file, allowance)
    # Nothing is left to `extract`: entries that its `data` filter would mend or refuse are all refused here.
    with tarfile.open(fileobj=cast(Any, stream), mode="r|", tarinfo=_StrictHeader) as opened:
        for info in opened:
            allowance.take_entry()
            if info.size < 0:
                raise tarfile.ReadError(f"{info.name!r} claims {info.size} bytes")
            if not (info.isdir() or info.isreg()) or info.issparse():
                raise _refusal(archive, info.name, "is a link, a device or sparse")
            yield Entry(info.name, info.isdir(), _chunks(archive, opened.extractfile(info)))
    while stream.read(CHUNK):  # up to the checksum at its end
        pass


def _chunks(archive: Path, stream: "_Metered | IO[bytes] | None") -> Iterator[bytes]:
    with _reading(archive):
        while stream and (chunk := stream.read(CHUNK)):
            yield chunk


class _StrictHeader(tarfile.TarInfo):
    """A header that must be right: tarfile takes a damaged or missing one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if bytes(buf) == bytes(tarfile.BLOCKSIZE):  # how a tar ends
                raise
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, opened: tarfile.TarFile) -> Self:
        """Go on with a header, as tarfile does; but long names and extended headers are held in memory whole."""
        if self.type in HELD and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header has {self.size:,} bytes; at most {MAX_HEADER:,} are read")
        return super()._proc_member(opened)  # type: ignore[misc, no-any-return]


class _Metered:
    """A decompressed stream that may give so much and no more."""

    def __init__(self, stream: IO[bytes], allowance: _Allowance) -> None:
        self.stream = stream
        self.allowance = allowance

    def read(self, size: int) -> bytes:
        return self.allowance.take(self.stream.read(size))


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what the decompressors raise into DataError."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(
            f"{archive} can't be read as a whole zip or tar archive: {error}. "
            f"It may be cut off, or something else under that name: delete it and fetch it again."
        ) from error


def _refusal(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{archive} was not unpacked: its entry {name!r} {why}. "
        f"An archive of photos holds plain files in folders; look at this one, and pack it anew without that."
    )


def _size(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError as error:
        raise DataError(f"The archive {archive} can't be opened: {error.strerror}.") from error
