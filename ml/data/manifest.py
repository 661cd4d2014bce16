"""The manifest: one row a photo, from the folders to what an animal's models are trained on.

`scan` reads every photo once, `draft` is one animal's view of the scan, `accept` drops what validation refused and
fixes groups and folds, `digest` names the outcome. `publish` makes it the version that training reads.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from ml.animals import Animal
from ml.data import cache, photos
from ml.data.files import replacing
from ml.data.splits import assign_folds, near_duplicate_groups
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
            f"Expected the photo folders at {root}. Received: {'a file' if root.exists() else 'nothing there'}. "
            "Set MENAGERIE_PHOTOS or the param `photos` to the folder."
        )
    files = sorted(_photo_files(root), key=os.fspath)
    if not files:
        raise DataError(
            f"No photo below {root}: expected files named {', '.join(sorted(photos.EXTENSIONS))} in one folder a class."
        )
    known = _known_facts(cache_folder)
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(lambda path: _read(root, path, known, cache_folder), files):
            rows.append(row)
            if progress:
                progress(len(rows), len(files))
    table = pd.DataFrame(rows, columns=["path", "sha256", "bytes", *FACTS]).astype({"dhash": "UInt64"})
    _keep_facts(cache_folder, table[table.thumbnail.notna()].drop_duplicates("sha256"))
    return table


def draft(scanned: pd.DataFrame, animal: Animal) -> pd.DataFrame:
    """Return the rows of `scanned` that are the animal's, with what its folders say of them.

    Adds `label` (1 the animal, 0 another), `class` (the animal's name, or the negative's top folder), `holdout`,
    `first_path` (where the same bytes come first) and `contradicted` (the same bytes are both positive and negative).

    Raises:
        DataError: there is no positive, or no negative.
    """
    paths = scanned.path.tolist()
    negatives = set(animal.choose_negatives(paths))
    positive = np.array([animal.is_positive(path) for path in paths], bool)
    negative = np.array([path in negatives for path in paths], bool)
    for kind, found, globs in (("positives", positive, animal.positives), ("negatives", negative, animal.negatives)):
        if not found.any():
            folders = sorted({path.split("/")[0] for path in paths if "/" in path})
            raise DataError(
                f"{animal.name} has no {kind}: expected photos that match {' or '.join(globs)} among {len(paths)} "
                f"photos. Received folders: {', '.join(folders[:30]) or 'none'}. "
                f"Add the folder, or mend `{kind}` in animals.toml."
            )
    table = scanned[positive | negative].reset_index(drop=True)
    table["label"] = positive[positive | negative].astype(np.int8)
    table["class"] = [_class(path, label, animal.name) for path, label in zip(table.path, table.label, strict=True)]
    table["holdout"] = [animal.is_holdout(path) for path in table.path]
    # Files that couldn't be read have no hash, and are nobody's copies.
    copies = table.groupby(table.sha256.where(table.sha256 != "", table.path))
    table["holdout"] = copies.holdout.transform("any")
    table["first_path"] = copies.path.transform("first")
    table["contradicted"] = (copies.label.transform("nunique") > 1) & table.problem.isna()
    return table


def accept(table: pd.DataFrame, reasons: dict[str, str], previous: pd.DataFrame | None, n_folds: int) -> pd.DataFrame:
    """Return the manifest: `table` with `reason` (why a photo was left out, else empty), `group` and `fold`.

    Photos of the `previous` manifest keep their fold, as long as the number of folds is the same. Photos left out have
    no group and no fold.

    Raises:
        DataError: a class has fewer near-duplicate groups than there are folds.
    """
    manifest = table.assign(
        reason=table.path.map(reasons).fillna(""), group="", fold=pd.array([pd.NA] * len(table), "Int8")
    )
    used = manifest.index[manifest.reason == ""]
    rows = manifest.loc[used]
    thumbnails = np.frombuffer(b"".join(rows.thumbnail), np.uint8).reshape(len(rows), 192)
    groups = near_duplicate_groups(rows.sha256.tolist(), rows.dhash.to_numpy(np.uint64), thumbnails)
    before: dict[str, int] = {}
    if previous is not None and (kept := used_rows(previous)).fold.max() + 1 == n_folds:
        before = dict(zip(kept.sha256, kept.fold.astype(int), strict=True))
    known = [before.get(digest) for digest in rows.sha256]
    manifest.loc[used, "group"] = groups
    manifest.loc[used, "fold"] = assign_folds(groups, rows["class"].tolist(), known, rows.holdout.tolist(), n_folds)
    _require_every_fold(manifest, n_folds)
    return manifest


def used_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the accepted photos, hold-out included, in an order that depends on their content alone."""
    rows = manifest[manifest.reason == ""].sort_values("sha256", ignore_index=True)
    return rows.astype({"fold": int})


def digest(manifest: pd.DataFrame) -> str:
    """Return 16 hex digits that name the accepted content: hashes, labels, classes, groups, folds; no file names."""
    rows = used_rows(manifest)
    lines = zip(rows.sha256, rows.label, rows["class"], rows.group, rows.fold, strict=True)
    return hashlib.sha256("\n".join(map(repr, lines)).encode()).hexdigest()[:16]


def write(manifest: pd.DataFrame, root: Path, folder: Path) -> str:
    """Write the manifest as `<digest>.parquet` in the animal's folder, with the photo root in it; return the digest."""
    name = digest(manifest)
    with replacing(folder / f"{name}.parquet") as aside:
        manifest.assign(root=str(root)).to_parquet(aside)
    return name


def publish(folder: Path, name: str, run_id: str = "") -> None:
    """Make the manifest `name` the accepted one; `run_id` is the MLflow run of its validation."""
    if not (folder / f"{name}.parquet").exists():
        raise DataError(f"No manifest {name} in {folder}. Run validate_images first.")
    with replacing(folder / "accepted.json") as aside:
        aside.write_text(json.dumps({"digest": name, "run_id": run_id}))


def accepted(folder: Path) -> str | None:
    """Return the digest of the accepted manifest, or `None` if none was accepted yet."""
    return _accepted(folder).get("digest")


def validation_run(folder: Path) -> str:
    """Return the MLflow run of the accepted manifest's validation, or nothing if it isn't known."""
    return _accepted(folder).get("run_id", "")


def load(folder: Path, name: str) -> pd.DataFrame:
    """Return the manifest `name`.

    Raises:
        DataError: there is none of this name.
    """
    file = folder / f"{name}.parquet"
    if not re.fullmatch(r"[0-9a-f]{16}", name) or not file.exists():
        raise DataError(f"No manifest {name!r} at {file}. Run validate_images for {folder.name} first.")
    return pd.read_parquet(file)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _accepted(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / "accepted.json").read_text())
    except FileNotFoundError:
        return {}


def _photo_files(root: Path) -> Iterator[Path]:
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
        if problem := _unfit(path):
            return _unread(name, problem)
        data = path.read_bytes()
    except OSError as error:
        return _unread(name, f"it can't be read: {error.strerror}")
    sha256 = sha256_of(data)
    row = {"path": name, "sha256": sha256, "bytes": len(data)}
    if sha256 in known and cache.has_pixels(cache_folder, sha256):
        return row | known[sha256]
    facts, pixels = photos.inspect(data)
    if pixels is not None:
        cache.put_pixels(cache_folder, sha256, pixels)
    return row | asdict(facts)


def _unfit(path: Path) -> str | None:
    if path.is_symlink():
        return "it is a symbolic link: put the photo itself here"
    if not path.is_file():  # a pipe would be waited on for ever
        return "it is no regular file"
    return photos.unfit_size(path.stat().st_size)


def _unread(name: str, problem: str) -> dict:
    return {"path": name, "sha256": "", "bytes": 0} | asdict(photos.Facts(problem))


def _facts_file(cache_folder: Path) -> Path:
    return cache_folder / "facts.parquet"


def _keep_facts(cache_folder: Path, decoded: pd.DataFrame) -> None:
    """Add to the facts that are kept; those of other photo roots stay."""
    facts = decoded.set_index("sha256")[FACTS].to_dict("index")
    kept = pd.DataFrame.from_dict(_known_facts(cache_folder) | facts, orient="index", columns=FACTS)
    with replacing(_facts_file(cache_folder)) as aside:
        kept.rename_axis("sha256").reset_index().astype({"dhash": "UInt64"}).to_parquet(aside)


def _known_facts(cache_folder: Path) -> dict[str, dict]:
    try:
        table = pd.read_parquet(_facts_file(cache_folder), columns=["sha256", *FACTS]).astype(object)
    except (FileNotFoundError, ValueError):  # none yet, or cut short by a crash, or of an older version
        return {}
    table = table.where(table.notna(), None)
    return {row.pop("sha256"): row for row in table.to_dict("records")}


def _class(path: str, label: int, animal: str) -> str:
    if label:
        return animal
    top = path.split("/", 1)[0] if "/" in path else "other"
    return f"not {animal}" if top == animal else top


def _require_every_fold(manifest: pd.DataFrame, n_folds: int) -> None:
    rows = used_rows(manifest)
    for label, kind in ((1, "positives"), (0, "negatives")):
        of_kind = rows[(rows.label == label) & (rows.fold >= 0)]
        if of_kind.fold.nunique() < n_folds:
            raise DataError(
                f"Expected at least {n_folds} unlike {kind}, one a fold. Received: {len(of_kind)} accepted photos in "
                f"{of_kind.group.nunique()} groups of near-duplicates. Add photos, or lower the param `folds`."
            )
