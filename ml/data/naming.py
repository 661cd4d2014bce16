"""Folders whose names are near to those that an animal's globs ask for: what their owner may have meant."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from ml.animals import SPLITS, Animal, below_splits
from ml.errors import DataError

PLAIN_WORDS = frozenset(
    {"new", "old", "more", "other", "photos", "photo", "pics", "pictures", "images", "img", "copy", "backup", "all"}
    | {"the", "of", "from", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
    | {"day", "night", "set", "part", "batch", "final", "raw", "cropped", "crops", *SPLITS}
)
"""Words in a folder's name that don't say another animal."""


def told(paths: Sequence[str], most: int = 30) -> str:
    """Return the top folders of these paths in a line."""
    folders = sorted({path.split("/")[0] for path in paths if "/" in path})
    more = f" and {len(folders) - most} more" if len(folders) > most else ""
    return ", ".join(map(_shown, folders[:most])) + more if folders else "none"


def nearest(globs: Sequence[str], paths: Sequence[str]) -> str:
    """Return which folders are called nearly as globs that found nothing ask for, as a sentence; or nothing."""
    folders = {path.rpartition("/")[0] for path in paths} - {""}
    folders |= {part for folder in folders for part in folder.split("/")}
    by_sight: dict[str, list[str]] = {}
    for folder in sorted(folders):
        by_sight.setdefault(_plain(folder), []).append(folder)
    wanted = [_plain(glob.rpartition("/")[0].strip("*/")) for glob in globs]
    found = [name for want in wanted if want for name in get_close_matches(want, by_sight, 3, 0.75)]
    near = list(dict.fromkeys(folder for name in found for folder in by_sight[name]))
    return f" Near to that: {', '.join(map(repr, near[:6]))}." if near else ""


def refuse_lookalikes(animal: Animal, negatives: Sequence[str]) -> None:
    """Raise DataError if negatives lie in a folder that nobody can tell from one of the animal's own by its looks."""
    alike = Counter(path.rpartition("/")[0] for path in negatives if animal.looks_positive(path))
    if alike:
        folders = ", ".join(f"{folder!r} ({count} photos)" for folder, count in sorted(alike.items()))
        raise DataError(
            f"Folders are called like those of {animal.name} but for capitals or blanks, and would be trained on as "
            f"other animals: {folders}. Expected by `positives` in animals.toml: {', '.join(animal.positives)}. "
            "Rename them or, if they are its photos, add them to `positives`."
        )


def doubtful(animal: Animal, negatives: Sequence[str]) -> list[str]:
    """Return warnings of folders of negatives that may be the animal's: `tigers/` or `TIGER 2024/` for tiger."""
    own = {animal.name, *(_plain(glob.rpartition("/")[0].rpartition("/")[2].strip("*")) for glob in animal.positives)}
    own |= {word + ending for word in own for ending in ("s", "es")} - {"", "s", "es"}
    own_words = {word for name in own for word in _words(name)}
    found: Counter[str] = Counter()
    for path in negatives:
        folder = next((part for part in path.split("/")[:-1] if _only(part, own_words)), None)
        if folder is not None:
            found[folder] += 1
    return [
        f"the folder {folder!r} ({count} photos) counts as other animals than {animal.name}, though its name reads "
        "like it: add it to `positives` in animals.toml, or rename it"
        for folder, count in sorted(found.items())
    ]


def divided(animal: Animal, paths: Sequence[str]) -> list[str]:
    """Return a warning if photos lie in folders such as `train` and `test`: those are read as one."""
    splits = sorted({path.split("/")[0] for path in paths if below_splits(path) != path})
    if not splits or any(animal.is_holdout(path) for path in paths):
        return []
    return [
        f"the folders {', '.join(splits)} are read as one, their classes being the folders in them; to keep one of "
        f'them for tests alone, set `holdout = ["{splits[-1] if "test" not in splits else "test"}/*"]` in animals.toml'
    ]


def _only(folder: str, own: set[str]) -> bool:
    words = _words(folder)
    return bool(words & own) and words <= own | PLAIN_WORDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", _plain(name)))


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _shown(name: str) -> str:
    """Return a name as it is, or quoted if its ends can't be seen."""
    return name if name == name.strip() and name.isprintable() else repr(name)
