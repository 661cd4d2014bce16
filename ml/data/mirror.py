"""Photos in an object store: a copy of them on this machine, brought up to date before they are scanned."""

import logging
from pathlib import Path

from filelock import FileLock

from ml import progress, settings
from ml.data import photos
from ml.data.listing import PassedOver, is_called_photo, is_system_folder, kind_by_name, passed_by_name
from ml.data.objects import Found, Place, bring_all
from ml.errors import DataError

TABLES = ".csv"
"""The extension of the tables of boxes beside the photos, which are brought too."""

log = logging.getLogger(__name__)


def folder(root: str, passed: PassedOver | None = None) -> Path:
    """Return the folder on this machine of the photos at `root`, a path or a URL.

    Of a URL, the photos that are new there or changed (by size or time) are brought first, and those that are gone
    there are removed here. Only names are known before: files named like photos are brought, and those without an
    extension, whose first bytes tell what they are; the others go to `passed`. A second process waits for the first.

    Raises:
        DataError: there is no photo at the URL; what was brought earlier stays.
        StorageError: the object store doesn't answer, or refuses.
        ParameterError: its driver is not installed.
    """
    here = settings.read().local(root)
    if "://" in root:
        here.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(here.with_name(f".{here.name}.lock")):
            _update(here, Place.at(root), PassedOver() if passed is None else passed)
    return here


def file(address: str) -> Path:
    """Return the file on this machine that is at `address`, a path or a URL; of a URL, brought if it isn't here.

    So a machine that didn't scan the photos finds the few that it needs. There may be no such file.
    """
    if "://" not in address:
        return Path(address).absolute()
    if not (here := settings.read().local(address)).exists():
        Place.at(address).bring(here)
    return here


def _update(here: Path, place: Place, passed: PassedOver) -> None:
    there = {}
    for name, found in place.listing().items():
        if reason := _passed(name, found.size):
            passed.add(reason, name)
        else:
            there[name] = found
    if not there:
        raise DataError(
            f"No photo at {place.url}: expected objects named {', '.join(sorted(photos.EXTENSIONS))}, one folder a "
            f"class. Received: {passed.sentence() or 'nothing there'}. Check MENAGERIE_PHOTOS or the param `photos`."
        )
    lacking = {name: found for name, found in there.items() if not _is_here(here / name, found)}

    def tell(done: int) -> None:
        progress.tell("photo brought", done, len(lacking))
        if done % 1000 == 0 or done == len(lacking):
            log.info("%s: %d of %d new or changed photos are here", place.url, done, len(lacking))

    bring_all(((place.below(name), here / name, found.modified) for name, found in lacking.items()), tell)
    kept = {here / name for name in there}
    gone = [path for path in here.rglob("*") if path.is_file() and path not in kept and path.name[:1] != "."]
    for path in gone:
        path.unlink(missing_ok=True)
    if gone:
        log.info("%s: %d that are gone there are removed here", place.url, len(gone))


def _passed(name: str, size: int) -> str | None:
    """Return as what an object is passed over, or `None`."""
    *folders, file = name.split("/")
    if any(map(is_system_folder, folders)):
        return "files in system folders"
    if Path(file).suffix.lower() == TABLES or is_called_photo(file):
        return None
    if passed := passed_by_name(file):
        return passed
    return None if not Path(file).suffix and 0 < size <= photos.MAX_BYTES else kind_by_name(file)


def _is_here(path: Path, found: Found) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (found.size, found.modified)
