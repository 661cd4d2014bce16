"""The animals, read from `animals.toml`: which photos are positives and negatives, and what is wanted."""

import tomllib
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ml.errors import ParameterError

NAME = r"^[a-z][a-z0-9_]{0,39}$"
SCHEDULES = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
CRON_FIELDS = 5
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "images"})
"""Folders that divide a dataset and are no class, where they hold folders."""


class Animal(BaseModel):
    """One table of `animals.toml`.

    Globs are matched against the photo's path below the photo root, and below folders such as `train` and `test` too
    (see `below_splits`). `*` crosses folders, and case counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    positives: tuple[str, ...] = Field(min_length=1)
    """Photos of the animal: those that match any of these globs."""
    negatives: tuple[str, ...] = Field(min_length=1)
    """Photos of other animals, in order of preference: the first glob that finds any is used, less the positives."""
    holdout: tuple[str, ...] = ()
    """Photos (of either kind) that never train and only test."""
    gan: bool = False
    """Whether a GAN is trained on the positives."""
    apart: dict[str, tuple[str, ...]] = {}
    """Photos of the animal, by a name for them, without which the numbers are given once more (coyotes among foxes)."""
    schedule: str = "@weekly"
    """When it is retrained even if no new photos come, as a cron expression (UTC) or a preset; empty: never."""
    preset: str = ""
    """How much its retraining tries; empty: as the installation is set."""
    require_approval: bool = False
    """Whether a person is asked before a model becomes champion."""

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, text: str) -> str:
        if text and text not in SCHEDULES:
            try:
                if len(text.split()) != CRON_FIELDS:
                    raise CroniterError
                croniter(text).get_next()
            except CroniterError as error:
                raise ValueError(
                    "expected five cron fields that meet some day, such as '0 3 * * 1' (Mondays at 3:00 UTC), or one "
                    f"of {', '.join(SCHEDULES)}, or '' for never"
                ) from error
        return text

    def is_positive(self, path: str) -> bool:
        return _matches(path, self.positives)

    def looks_positive(self, path: str) -> bool:
        """Return whether a photo would match if its folders' names were written as these globs write them.

        Capitals, blanks and the way in which accents are encoded don't count.
        """
        return _matches(_as_seen(path), tuple(map(_as_seen, self.positives)))

    def is_holdout(self, path: str) -> bool:
        return _matches(path, self.holdout)

    def is_apart(self, path: str, name: str) -> bool:
        return _matches(path, self.apart[name])

    def choose_negatives(self, paths: list[str]) -> list[str]:
        """Return those of `paths` that are this animal's negatives (may be none)."""
        others = [path for path in paths if not self.is_positive(path)]
        found = ([path for path in others if _matches(path, (glob,))] for glob in self.negatives)
        return next(filter(None, found), [])


def read(path: Path) -> dict[str, Animal]:
    """Return the animals of the file `path`, by name, in the file's order.

    Raises:
        ParameterError: the file is missing, is no TOML, has no animal, or a table has an unknown key or a wrong value.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"Expected the table of animals at {path}. Received: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not TOML: {error}") from error
    if not tables:
        raise ParameterError(f"{path} names no animal. Expected a table such as [fox] with positives and negatives.")
    return {name: _animal(path, name, table) for name, table in tables.items()}


def _animal(path: Path, name: str, table: object) -> Animal:
    if not isinstance(table, dict) or "name" in table:
        raise ParameterError(
            f"{path}: expected tables such as [fox], named by their heading. Received: {name} = {table!r}"
        )
    try:
        return Animal(name=name, **table)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or name}: {fault['msg']} (received {fault['input']!r})"
            for fault in error.errors()
        )
        keys = ", ".join(key for key in Animal.model_fields if key != "name")
        raise ParameterError(f"{path}, table [{name}]: {faults}. Keys: {keys}.") from error


def below_splits(path: str) -> str:
    """Return a path without the folders at its head that only divide a dataset, such as `train/` or `images/val/`."""
    folders = path.split("/")
    while len(folders) > 2 and folders[0].strip().casefold() in SPLITS:
        del folders[0]
    return "/".join(folders)


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    path = unicodedata.normalize("NFC", path)
    paths = {path, below_splits(path)}
    return any(_match(each, unicodedata.normalize("NFC", glob)) for glob in globs for each in paths)


def _match(path: str, glob: str) -> bool:
    # A folder may be called `tiger [2024]`.
    return fnmatchcase(path, glob) or ("[" in glob and fnmatchcase(path, glob.replace("[", "[[]")))


def _as_seen(path: str) -> str:
    """Return a path or glob with its folders' names as a person sees them; the file's name stays."""
    *folders, file = unicodedata.normalize("NFC", path).split("/")
    return "/".join([*(" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in folders), file])
