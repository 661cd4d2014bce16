"""The scan: every photo below the root read once, and decoded once in its life."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from ml import fingerprint
from ml.data import cache, photos, store
from ml.data.files import replacing
from ml.data.first_photos import ways_out
from ml.data.listing import PassedOver, photo_files
from ml.data.near_duplicates import Fingerprints, near_duplicate_groups
from ml.errors import DataError

FACTS = [field.name for field in fields(photos.Facts)]
Progress = Callable[[int, int], None]


def scan(
    root: Path, cache_folder: Path, progress: Progress | None = None, passed: PassedOver | None = None
) -> pd.DataFrame:
    """Read every photo below `root`; decode those that no earlier scan has decoded, and cache their pixels.

    Returns one row per photo (see `ml.data.listing`), sorted by path: `path` (below root, `/` between folders),
    `sha256`, `bytes`, the columns of `photos.Facts`, and `near`, which near-duplicates have in common (empty for what
    can't be read). What can't be read has its reason in `problem`. What is passed over is added to `passed`.

    Raises:
        DataError: `root` is no folder, holds no photo, or a folder within one of its folders can't be listed.
    """
    if not root.is_dir():
        raise DataError(
            f"Expected the photo folders at {root}. Received: {'a file' if root.exists() else 'nothing there'}.\n"
            f"{ways_out(root)}\nFor this run alone, the param `photos` may name another folder."
        )
    passed = PassedOver() if passed is None else passed
    files = sorted(photo_files(root, passed, in_classes=True), key=os.fspath)
    if not files:
        raise DataError(
            f"No photo below {root}: expected JPEG, PNG, HEIC or other pictures, one folder per class. "
            f"Received: {passed.sentence() or 'no file'}.\n{ways_out(root)}"
        )
    facts, kept = _known_facts(cache_folder), cache.kept_pixels(cache_folder)
    known = {sha256: facts[sha256] for sha256 in facts.keys() & kept}
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(lambda path: _read(root, path, known, cache_folder), files):
            rows.append(row)
            if progress:
                progress(len(rows), len(files))
    table = pd.DataFrame(rows, columns=["path", "sha256", "bytes", *FACTS]).astype({"taken": float})
    decoded = table[table.look.notna()].drop_duplicates("sha256")
    _keep_facts(cache_folder, decoded)
    return table.assign(near=table.sha256.map(_near_duplicates(decoded, cache_folder)).fillna(""))


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
    if path.is_symlink() and not path.exists():
        return "it is a symbolic link to something that is not there, or goes round in circles"
    if not path.is_file():  # a pipe would be waited on for ever
        return "it is no regular file"
    return photos.unfit_size(path.stat().st_size)


def _unread(name: str, problem: str) -> dict:
    return {"path": name, "sha256": "", "bytes": 0} | asdict(photos.Facts(problem))


def _near_duplicates(decoded: pd.DataFrame, cache_folder: Path) -> dict[str, str]:
    """Return the near-duplicate group of each photo by its digest; photos of the last scan aren't compared again."""
    rule = fingerprint.of("ml.data.near_duplicates")
    file = cache.decoded(cache_folder) / f"near-duplicates-{rule}.parquet"
    store.fetch(file, anew=True)
    try:
        last = pd.read_parquet(file)
        known = dict(zip(last.sha256, last.near, strict=True))
    except (FileNotFoundError, ValueError):  # none yet, or cut short by a crash
        known = {}
    names = decoded.sha256.tolist()
    groups = dict(zip(names, near_duplicate_groups(names, Fingerprints.of(decoded), known), strict=True))
    with replacing(file) as aside:
        pd.DataFrame({"sha256": groups.keys(), "near": groups.values()}).to_parquet(aside)
    return groups


def _facts_file(cache_folder: Path) -> Path:
    return cache.decoded(cache_folder) / "facts.parquet"


def _keep_facts(cache_folder: Path, decoded: pd.DataFrame) -> None:
    """Add to the facts that are kept; those of other photo roots stay."""
    facts = decoded.set_index("sha256")[FACTS].to_dict("index")
    kept = pd.DataFrame.from_dict(_known_facts(cache_folder) | facts, orient="index", columns=FACTS)
    with replacing(_facts_file(cache_folder)) as aside:
        kept.rename_axis("sha256").reset_index().to_parquet(aside)


def _known_facts(cache_folder: Path) -> dict[str, dict]:
    store.fetch(_facts_file(cache_folder), anew=True)
    try:
        table = pd.read_parquet(_facts_file(cache_folder), columns=["sha256", *FACTS]).astype(object)
    except (FileNotFoundError, ValueError):  # none yet, or cut short by a crash, or of an older version
        return {}
    table = table.where(table.notna(), None)
    return {row.pop("sha256"): row for row in table.to_dict("records")}
