"""Photos that stand or fall together: frames of a burst, and what the owner says belongs together (`group`).

A model that has seen one frame of a burst knows the next, so they must never be on both sides of a split.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pandas as pd

from ml.animals import Animal
from ml.data.near_duplicates import SAME_PICTURE, Fingerprints, likeness

BURST_SECONDS = 10
"""Photos of one camera with pauses of at most this belong together."""
SUSPICIOUS_SECONDS = 60
LARGE_SHARE, LARGE_NUMBER = 0.05, 20
"""Groups that are larger than both are warned of; of those that `group` makes, those that fill a fold."""
SUSPICIOUS_SHARE, SUSPICIOUS_NUMBER = 0.1, 10
"""From this share and number of photos on, what looks like bursts is warned of."""
NAMED = 3
COMPARED = 8
"""Photos of the animal that are compared with all others of their group at once: it takes 40 KB per pair."""

_STAMP = re.compile(r"(?<!\d)((?:19|20)\d{6})[-_T ]?(\d{6})(?!\d)")
_LAST_NUMBER = re.compile(r"^(.*\d.*?[^\d])\(?\d{1,3}\)?$")


def bursts(photos: pd.DataFrame, seconds: float = BURST_SECONDS) -> list[str]:
    """Return a name for the burst of each photo, empty for one that the camera gave no time.

    A burst is what one camera took with pauses of at most `seconds`. Cameras that give their serial number are known by
    it wherever their photos lie; others by their model and the photo's folder. `photos` has the columns `path`, `taken`
    and `camera` (see `ml.data.photos.Facts`).
    """
    folders = pd.Series([path.rpartition("/")[0] for path in photos.path], photos.index, str)
    names = photos.camera.fillna("").astype(str)
    cameras = names.where(names.str.contains("#"), names + " in " + folders)
    return _runs(cameras, photos.taken, seconds)


def _runs(sources: pd.Series, times: pd.Series, seconds: float) -> list[str]:
    """Name runs of times (seconds, or NaN) of one source with pauses of at most `seconds`; empty without a time."""
    table = pd.DataFrame({"source": sources.to_numpy(), "time": times.to_numpy(float)})
    ordered = table[table.time.notna()].sort_values(["source", "time"])
    starts = ~(ordered.groupby("source").time.diff() <= seconds)
    runs = ordered.source + " " + starts.cumsum().astype(str)
    return runs.reindex(table.index, fill_value="").tolist()


def warnings(manifest: pd.DataFrame, animal: Animal, n_folds: int) -> list[str]:
    """Return what the owner should know of the groups of a manifest: see `ml.data.manifest`."""
    used = manifest[manifest.reason == ""]
    return [*_large(used, n_folds), *_unmatched(used, animal), *_untied(used)]


def contradictions(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of the same picture, one with the animal and one without: `path`, `other_path`, `likeness`.

    The same picture in another file, that is: compressed, resized or cropped. Two frames of one scene, of which one
    shows the animal, are no contradiction.
    """
    used = manifest[(manifest.reason == "") & (manifest.near != "")]
    mixed = used[used.groupby("near").label.transform("nunique") > 1].reset_index(drop=True).reset_index(names="place")
    looks = Fingerprints.of(mixed).looks
    columns = ["near", "place", "path"]
    mine, others = (mixed.loc[mixed.label == label, columns] for label in (1, 0))
    found = [pd.DataFrame(columns=["path", "other_path", "likeness"])]
    for start in range(0, len(mine), COMPARED):
        pairs = mine[start : start + COMPARED].merge(others, on="near", suffixes=("", "_other"))
        pairs["likeness"] = likeness(looks[pairs.place], looks[pairs.place_other])
        same = pairs[pairs.likeness >= SAME_PICTURE].rename(columns={"path_other": "other_path"})
        found.append(same[found[0].columns])
    rows = pd.concat([table for table in found if len(table)] or found)
    return rows.sort_values(["likeness", "path"], ascending=[False, True], ignore_index=True)


def _large(used: pd.DataFrame, n_folds: int) -> Iterator[str]:
    for group, size in used.group.value_counts().items():
        if size <= max(LARGE_SHARE * len(used), LARGE_NUMBER):
            return
        rows = used[used.group == group]
        causes = {
            "near-duplicates": rows.near.duplicated(keep=False) & (rows.near != ""),
            f"taken by one camera within {BURST_SECONDS} s of each other": rows.burst.duplicated(keep=False)
            & (rows.burst != ""),
            "of one `group`": rows.scene.duplicated(keep=False) & (rows.scene != ""),
        }
        if causes["of one `group`"].all() and size <= len(used) / n_folds:
            continue
        told = ", ".join(f"{tied.sum()} {cause}" for cause, tied in causes.items() if tied.any())
        yield (
            f"{size} of {len(used)} photos ({size / len(used):.0%}) hang together and stand in one fold ({told}), such "
            f"as {_named(rows.path)}: folds are uneven, and the accuracy is less certain than their number suggests"
        )


def _unmatched(used: pd.DataFrame, animal: Animal) -> Iterator[str]:
    lone = used[used.scene == ""]
    if animal.group and len(lone):
        yield (
            f"{len(lone)} of {len(used)} photos don't match the `group` {animal.group!r} and count as scenes of their "
            f"own, such as {_named(lone.path)}"
        )


def _untied(used: pd.DataFrame) -> Iterator[str]:
    """Warn of photos whose names or times look like bursts, but which are in groups of their own."""
    folders, files = used.path.str.rpartition("/")[0], used.path.str.rpartition("/")[2]
    stems = files.str.rpartition(".")[0]
    numbered = stems.str.extract(_LAST_NUMBER)[0]
    families = (folders + "/" + numbered).fillna("")
    sizes = families.map(Counter(families))
    signs = {
        "are named like frames of bursts": families.where((sizes <= LARGE_NUMBER) & (families != ""), "").tolist(),
        f"have names that are times less than {SUSPICIOUS_SECONDS} s apart": _runs(
            folders, stems.map(_stamp).astype(float), SUSPICIOUS_SECONDS
        ),
        f"were taken by one camera less than {SUSPICIOUS_SECONDS} s apart": bursts(used, SUSPICIOUS_SECONDS),
    }
    for sign, names in signs.items():
        looks = pd.Series(names, used.index)
        groups = used.group.groupby(looks).transform("nunique")
        loose = used[(looks != "") & (groups > 1)]
        if len(loose) >= max(SUSPICIOUS_SHARE * len(used), SUSPICIOUS_NUMBER):
            first = loose.path[looks[loose.index] == looks[loose.index[0]]]
            yield (
                f"{len(loose)} of {len(used)} photos {sign}, such as {_named(first)}, but stand in different groups: "
                "if they show the same scene, the accuracy is too high. Say what belongs together with the key `group` "
                "in animals.toml"
            )


def _stamp(stem: str) -> float:
    found = _STAMP.search(stem)
    try:
        return datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S").timestamp() if found else np.nan
    except ValueError:
        return np.nan


def _named(paths: pd.Series) -> str:
    return ", ".join(map(repr, paths.iloc[:NAMED])) + (", …" if len(paths) > NAMED else "")
