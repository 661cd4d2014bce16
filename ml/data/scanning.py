"""The scan: every photo below the root read once, and decoded once in its life."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import NoReturn

import pandas as pd

from ml.data import cache, photos, store
from ml.data.files import replacing
from ml.data.first_photos import ways_out
from ml.errors import DataError

FACTS = [field.name for field in fields(photos.Facts)]
Progress = Callable[[int, int], None]


def scan(root: Path, cache_folder: Path, progress: Progress | None = None) -> pd.DataFrame:
    """Read every photo below `root`; decode those that no earlier scan has decoded, and cache their pixels.

    Returns one row a file that is named like a photo, sorted by path: `path` (below root, `/` between folders),
    `sha256`, `bytes`, and the columns of `photos.Facts`. What can't be read has its reason in `problem`. Hidden files,
    files of other kinds and links to folders are passed over.

    Raises:
        DataError: `root` is no folder, holds no photo, or a folder in it can't be listed.
    """
    if not root.is_dir():
        raise DataError(
            f"Expected the photo folders at {root}. Received: {'a file' if root.exists() else 'nothing there'}.\n"
            f"{ways_out(root)}\nFor this run alone, the param `photos` may name another folder."
        )
    files = sorted(photo_files(root), key=os.fspath)
    if not files:
        raise DataError(
            f"No photo below {root}: expected files named {', '.join(sorted(photos.EXTENSIONS))}, "
            f"one folder per class.\n{ways_out(root)}"
        )
    facts, kept = _known_facts(cache_folder), cache.kept_pixels(cache_folder)
    known = {sha256: facts[sha256] for sha256 in facts.keys() & kept}
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(lambda path: _read(root, path, known, cache_folder), files):
            rows.append(row)
            if progress:
                progress(len(rows), len(files))
    table = pd.DataFrame(rows, columns=["path", "sha256", "bytes", *FACTS]).astype({"dhash": "UInt64"})
    _keep_facts(cache_folder, table[table.thumbnail.notna()].drop_duplicates("sha256"))
    return table


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def photo_files(root: Path) -> Iterator[Path]:
    """Yield what is named like a photo below `root`, in no order; hidden files and folders are passed over."""
    for folder, folders, files in os.walk(root, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in photos.EXTENSIONS:
                yield path


def _refuse_folder(error: OSError) -> NoReturn:
    raise DataError(
        f"The folder {error.filename} can't be listed: {error.strerror}. "
        "Mend its rights, or take it out of the photo root."
    ) from error


def _read(root: Path, path: Path, known: dict[str, dict], cache_folder: Path) -> dict:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        escaped = os.fsencode(name).decode(errors="backslashreplace")
        return _unread(escaped, "its name is not UTF-8: rename it")
    try:
        if problem := unfit(path):
            return _unread(name, problem)
        data = path.read_bytes()
    except OSError as error:
        return _unread(name, f"it can't be read: {error.strerror}")
    sha256 = sha256_of(data)
    row = {"path": name, "sha256": sha256, "bytes": len(data)}
    if sha256 in known:
        return row | known[sha256]
    facts, pixels = photos.inspect(data)
    if pixels is not None:
        cache.put_pixels(cache_folder, sha256, pixels)
    return row | asdict(facts)


def unfit(path: Path) -> str | None:
    """Return what keeps a file from being read as a photo at all, or `None`."""
    if path.is_symlink():
        return "it is a symbolic link: put the photo itself here"
    if not path.is_file():  # a pipe would be waited on for ever
        return "it is no regular file"
    return photos.unfit_size(path.stat().st_size)


def _unread(name: str, problem: str) -> dict:
    return {"path": name, "sha256": "", "bytes": 0} | asdict(photos.Facts(problem))


def _facts_file(cache_folder: Path) -> Path:
    return cache.decoded(cache_folder) / "facts.parquet"


def _keep_facts(cache_folder: Path, decoded: pd.DataFrame) -> None:
    """Add to the facts that are kept; those of other photo roots stay."""
    facts = decoded.set_index("sha256")[FACTS].to_dict("index")
    kept = pd.DataFrame.from_dict(_known_facts(cache_folder) | facts, orient="index", columns=FACTS)
    with replacing(_facts_file(cache_folder)) as aside:
        kept.rename_axis("sha256").reset_index().astype({"dhash": "UInt64"}).to_parquet(aside)


def _known_facts(cache_folder: Path) -> dict[str, dict]:
    store.fetch(_facts_file(cache_folder), anew=True)
    try:
        table = pd.read_parquet(_facts_file(cache_folder), columns=["sha256", *FACTS]).astype(object)
    except (FileNotFoundError, ValueError):  # none yet, or cut short by a crash, or of an older version
        return {}
    table = table.where(table.notna(), None)
    return {row.pop("sha256"): row for row in table.to_dict("records")}
