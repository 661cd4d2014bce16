"""What machines share that have no volume in common: by the object store that `MENAGERIE_STORE` names.

Each machine has a home of its own. What is written in its folders `SHARED` goes to the store before it is seen here, so
that what is here is there; what is read there is fetched first if this machine lacks it. Without a store nothing here
does anything.

Locks hold on one machine only: two may do the same work at the same time. They come to the same results, the later
object takes the place of the earlier, and nobody reads half of one.
"""

from pathlib import Path

from ml import settings
from ml.data.objects import Place, bring_all

SHARED = {"cache", "datasets", "scans", "scores", "work"}
"""The folders of a home that machines share; the others are of one machine: its logs, databases, mirrors of photos."""


def keep(aside: Path, file: Path) -> None:
    """Put what becomes `file`, and is `aside` still, into the store, if `file` is shared.

    Raises:
        StorageError: it doesn't take it.
    """
    if place := _place(file):
        place.put(aside)


def fetch(*files: Path, anew: bool = False) -> None:
    """Bring the files that this machine lacks or, `anew`, all; what the store lacks stays as it is.

    Raises:
        StorageError: it doesn't give them.
    """
    if lacking := [file for file in files if anew or not file.exists()]:
        bring_all((place, file, 0) for file in lacking if (place := _place(file)))


def fetch_folder(folder: Path) -> None:
    """Bring what the store has of a folder, and this machine lacks."""
    fetch(*(folder / name for name in names(folder) or ()))


def renew_folder(folder: Path) -> None:
    """Make a folder what it is in the store: another machine may have gone on with its work, or be done."""
    if (kept := names(folder)) is None:
        return
    there = {folder / name for name in kept}
    for file in folder.rglob("*"):
        if file.is_file() and file not in there:
            file.unlink(missing_ok=True)
    fetch(*there, anew=True)


def names(folder: Path) -> set[str] | None:
    """Return what the store has of a folder, by the paths below it; `None` without a store."""
    place = _place(folder)
    return set(place.listing()) if place else None


def remove(path: Path) -> None:
    """Remove a file, or a folder and all in it, from the store."""
    if place := _place(path):
        place.remove()


def _place(path: Path) -> Place | None:
    """Return where the store keeps a file or folder of this machine's home, if it does."""
    chosen = settings.read()
    if not chosen.store or not path.is_relative_to(chosen.home):
        return None
    below = path.relative_to(chosen.home)
    return Place.at(chosen.store).below(below.as_posix()) if SHARED.intersection(below.parts[:1]) else None
