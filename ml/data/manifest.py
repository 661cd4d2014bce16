"""The manifest: one row a photo, from the folders to what an animal's models are trained on.

`draft` is one animal's view of a scan, `accept` drops what validation refused and fixes groups and folds, `digest`
names the outcome. `publish` makes it the version that training reads.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ml.animals import Animal, below_splits
from ml.data import naming, store
from ml.data.files import replacing
from ml.data.scenes import bursts
from ml.data.splits import assign_folds, joined_groups
from ml.errors import DataError


def draft(scanned: pd.DataFrame, animal: Animal, others: Sequence[Animal] = ()) -> pd.DataFrame:
    """Return the rows of `scanned` that are the animal's, with what its folders say of them.

    Adds `label` (1 the animal, 0 another), `class` (the animal's name, or the negative's top folder, `train/` and the
    like left out), `holdout`, `first_path` (where the same bytes come first, among the positives if there are any),
    `contradicted` (the same bytes are both positive and negative), and two names of what belongs together: `scene` (by
    the animal's `group`) and `burst`. A photo that is a positive of the `others`, too, is no negative, and no
    contradiction.

    Raises:
        DataError: there is no positive, or no negative, or a negative's folder can't be told from a positive's.
    """
    paths = scanned.path.tolist()
    negatives = set(animal.choose_negatives(paths))
    positive = np.array([animal.is_positive(path) for path in paths], bool)
    negative = np.array([path in negatives for path in paths], bool)
    for kind, found, globs in (("positives", positive, animal.positives), ("negatives", negative, animal.negatives)):
        if not found.any():
            raise DataError(
                f"{animal.name} has no {kind}: expected photos that match {' or '.join(globs)} among {len(paths)} "
                f"photos. Received folders: {naming.told(paths)}.{naming.nearest(globs, paths)} "
                f"Add the folder, or mend `{kind}` in animals.toml."
            )
    naming.refuse_lookalikes(animal, sorted(negatives))
    table = scanned[positive | negative].reset_index(drop=True)
    table["label"] = positive[positive | negative].astype(np.int8)
    table["class"] = [_class(path, label, animal.name) for path, label in zip(table.path, table.label, strict=True)]
    table["holdout"] = [animal.is_holdout(path) for path in table.path]
    table["scene"] = [animal.scene(path) for path in table.path]
    table["burst"] = bursts(table)
    # Files that couldn't be read have no hash, and are nobody's copies.
    copies = table.groupby(table.sha256.where(table.sha256 != "", table.path))
    table["holdout"] = copies.holdout.transform("any")
    copy = copies.ngroup()
    positives_first = table.sort_values("label", ascending=False, kind="stable")
    table["first_path"] = positives_first.groupby(copy).path.transform("first")
    elsewhere = np.array([any(each.is_positive(path) for each in others) for path in table.path], bool)
    doubtful = (table.label == 0) & (copies.label.transform("max") == 1) & ~elsewhere
    table["contradicted"] = doubtful.groupby(copy).transform("any") & table.problem.isna()
    return table


def accept(table: pd.DataFrame, reasons: dict[str, str], previous: pd.DataFrame | None, n_folds: int) -> pd.DataFrame:
    """Return the manifest: `table` with `reason` (why a photo was left out, else empty), `group` and `fold`.

    Photos of the `previous` manifest keep their fold, as long as the number of folds is the same. Photos left out have
    no group and no fold.

    Raises:
        DataError: a class has fewer groups than there are folds.
    """
    manifest = table.assign(
        reason=table.path.map(reasons).fillna(""), group="", fold=pd.array([pd.NA] * len(table), "Int8")
    )
    used = manifest.index[manifest.reason == ""]
    rows = manifest.loc[used]
    groups = joined_groups(rows.sha256.tolist(), *(rows[tie].tolist() for tie in ("near", "burst", "scene")))
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


def write(manifest: pd.DataFrame, root: str | Path, folder: Path) -> str:
    """Write the manifest as `<digest>.parquet` in the animal's folder, with the root of its photos, a path or a URL;
    return the digest.
    """
    name = digest(manifest)
    with replacing(folder / f"{name}.parquet") as aside:
        manifest.assign(root=str(root)).to_parquet(aside)
    return name


def publish(folder: Path, name: str, run_id: str = "") -> None:
    """Make the manifest `name` the accepted one; `run_id` is the MLflow run of its validation."""
    store.fetch(folder / f"{name}.parquet")
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
    store.fetch(file)
    if not re.fullmatch(r"[0-9a-f]{16}", name) or not file.exists():
        raise DataError(f"No manifest {name!r} at {file}. Run validate_images for {folder.name} first.")
    table = pd.read_parquet(file)
    if missing := sorted({"path", "sha256", "label", "class", "reason", "group", "fold"} - set(table.columns)):
        raise DataError(
            f"The manifest {file} is of another version of Menagerie: it has no column {', '.join(missing)}. "
            f"Run validate_images for {folder.name}, which makes a new one."
        )
    return table if "drawn" in table else table.assign(drawn=False)  # one that was written before drawings were signed


def _accepted(folder: Path) -> dict[str, str]:
    store.fetch(folder / "accepted.json", anew=True)
    try:
        return json.loads((folder / "accepted.json").read_text())
    except FileNotFoundError:
        return {}


def _class(path: str, label: int, animal: str) -> str:
    if label:
        return animal
    path = below_splits(path)
    top = unicodedata.normalize("NFC", path.split("/", 1)[0]) if "/" in path else "other"
    return f"not {animal}" if top == animal else top


def _require_every_fold(manifest: pd.DataFrame, n_folds: int) -> None:
    rows = used_rows(manifest)
    for label, kind in ((1, "positives"), (0, "negatives")):
        of_kind = rows[(rows.label == label) & (rows.fold >= 0)]
        if of_kind.fold.nunique() < n_folds:
            raise DataError(
                f"Expected at least {n_folds} unlike {kind}, one a fold. Received: {len(of_kind)} accepted photos in "
                f"{of_kind.group.nunique()} groups (near-duplicates, bursts and what `group` ties stand in one fold). "
                "Add photos of other scenes, or lower the param `folds`."
            )
