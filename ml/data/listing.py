"""Which files below a folder are photos, and what was passed over: nothing is left out without a word."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ml.data import kinds, photos
from ml.errors import DataError

NAMED = 3
"""Names of a kind that are told."""
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
    }
    | {"lost+found", "system volume information", "__macosx", "found.000", "network trash folder", "temporary items"}
)
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini"})
OWN = frozenset({"boxes.csv"})
"""Files with a meaning here: see `ml.data.crops`."""
RAW = frozenset(
    {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".raf", ".rw2", ".pef", ".srw"}
    | {".x3f", ".3fr", ".fff", ".iiq", ".rwl", ".raw", ".gpr", ".kdc", ".dcr", ".mrw", ".erf", ".mef", ".mos"}
)
"""What cameras call their raw files: most look like a TIFF from within."""
THUMBNAILS = frozenset({".thm"})
"""JPEG files that cameras write beside their videos."""


@dataclass
class PassedOver:
    """What a listing passed over, by kind: how many, and their names below the root."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        self.names.setdefault(kind, []).append(os.fsencode(name).decode(errors="backslashreplace"))

    @property
    def count(self) -> int:
        return sum(map(len, self.names.values()))

    def sentence(self) -> str:
        """Return it in a line such as `passed over: 12 .dng files (a.dng, b.dng, c.dng, …)`; empty if there is none."""
        kinds_of = sorted(self.names.items(), key=lambda item: (-len(item[1]), item[0]))
        told = [f"{len(names):,} {kind} ({_some(names)})" for kind, names in kinds_of]
        return f"passed over: {', '.join(told)}" if told else ""

    def table(self) -> pd.DataFrame:
        rows = [(kind, len(names), _some(names, 20)) for kind, names in sorted(self.names.items())]
        return pd.DataFrame(rows, columns=["kind", "count", "names"])


def photo_files(root: Path, passed: PassedOver | None = None, in_classes: bool = False) -> Iterator[Path]:
    """Yield the photos below `root`, in no order: files with a photo's extension, and those that begin like a photo.

    The rest goes to `passed`: hidden files, what systems leave on disks, files of other kinds, links to folders, which
    are not followed, and folders that can't be listed.

    Raises:
        DataError: `root` can't be listed or, with `in_classes`, a folder in one of its folders.
    """
    passed = PassedOver() if passed is None else passed

    def unlisted(error: OSError) -> None:
        folder = Path(error.filename)
        if folder == root or (in_classes and folder.parent != root):
            raise DataError(
                f"The folder {folder} can't be listed: {error.strerror}. "
                "Mend its rights, or take it out of the photo root."
            ) from error
        passed.add(f"folders that can't be listed ({error.strerror})", f"{folder.relative_to(root)}/")

    for folder, folders, files in os.walk(root, onerror=unlisted):
        below = Path(folder).relative_to(root)
        walked = []
        for name in folders:
            if reason := _passed_folder(Path(folder, name)):
                passed.add(reason, f"{below / name}/")
            else:
                walked.append(name)
        folders[:] = walked
        for name in files:
            if name in OWN:
                continue
            if reason := _passed_file(Path(folder, name)):
                passed.add(reason, str(below / name))
            else:
                yield Path(folder, name)


def passed_by_name(name: str) -> str | None:
    """Return as what a file is passed over whatever is in it, or `None`."""
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return "hidden files"
    if name.lower() in SYSTEM_FILES:
        return "system files"
    return f"{suffix} files (previews of videos)" if suffix in THUMBNAILS else None


def is_called_photo(name: str) -> bool:
    """Return whether a file has the extension of a photo, or one that begins so, as `.jpg_large`."""
    suffix = Path(name).suffix.lower()
    return suffix in photos.EXTENSIONS or suffix.startswith((".jpg", ".jpeg", ".png"))


def kind_by_name(name: str) -> str:
    """Return what a file that isn't a photo is called among its like."""
    suffix = Path(name).suffix.lower()
    if suffix in RAW:
        return f"{suffix} files (raw: export them as JPEG)"
    return f"{suffix} files" if suffix else "files without extension"


def is_system_folder(name: str) -> bool:
    return name.lower() in SYSTEM_FOLDERS


def _passed_folder(folder: Path) -> str | None:
    if folder.name.startswith("."):
        return "hidden folders"
    if is_system_folder(folder.name):
        return "system folders"
    # A link may lead back, or to a whole disk.
    return "links to folders (not followed: put the folder itself here)" if folder.is_symlink() else None


def _passed_file(path: Path) -> str | None:
    if (passed := passed_by_name(path.name)) or path.suffix.lower() in photos.EXTENSIONS:
        return passed
    try:
        if path.is_file():  # a pipe would be waited on for ever
            with path.open("rb") as file:
                kind = kinds.picture_kind(file.read(kinds.HEAD))
            if kind and kind not in ("TIFF", "BMP"):  # many other things begin like these
                return None
    except OSError:
        pass
    return kind_by_name(path.name)


def _some(names: list[str], most: int = NAMED) -> str:
    return ", ".join(sorted(names)[:most]) + (", …" if len(names) > most else "")
