"""The animals, read from `animals.toml`: which photos are positives and negatives, and what is wanted."""

import re
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ml.errors import ParameterError

NAME = r"^[a-z][a-z0-9_]{0,39}$"
SCHEDULES = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
CRON_FIELDS = 5


class Animal(BaseModel):
    """One table of `animals.toml`.

    Globs are matched against the photo's path below the photo root, `*` crosses folders, and case counts.
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
    group: str = Field("", description='a pattern with a part in braces, such as "*/{site}/*"')
    """Photos that belong together (a site, a camera, a sequence): those whose paths have the same parts in braces."""
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

    @field_validator("group")
    @classmethod
    def _is_a_pattern(cls, text: str) -> str:
        if text:
            _group_pattern(text)
        return text

    def is_positive(self, path: str) -> bool:
        return _matches(path, self.positives)

    def is_holdout(self, path: str) -> bool:
        return _matches(path, self.holdout)

    def is_apart(self, path: str, name: str) -> bool:
        return _matches(path, self.apart[name])

    def scene(self, path: str) -> str:
        """Return what the path says of which photos it belongs with; empty if `group` isn't given or doesn't match."""
        found = _group_pattern(self.group).fullmatch(path) if self.group else None
        return "; ".join(f"{name} {part}" for name, part in found.groupdict().items()) if found else ""

    def choose_negatives(self, paths: list[str]) -> list[str]:
        """Return those of `paths` that are this animal's negatives (may be none)."""
        others = [path for path in paths if not self.is_positive(path)]
        found = ([path for path in others if fnmatchcase(path, glob)] for glob in self.negatives)
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


@cache
def _group_pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression of a `group`: `{site}` is a part of one name, `*` and `?` are as in globs.

    Each takes as little as it can, from the left.
    """
    parts = re.split(r"\{([A-Za-z]\w*)\}", text)
    names, between = parts[1::2], parts[::2]
    if not names or len(set(names)) < len(names) or any(set(part) & set("{}") for part in between):
        raise ValueError(
            "expected a pattern with one or more parts in braces, each named once, such as '*/{site}/*' or "
            "'*/{camera}_{day}_*'"
        )
    globs = [re.escape(part).replace(r"\*", ".*?").replace(r"\?", ".") for part in between]
    named = [f"(?P<{name}>[^/]+?)" for name in names]
    return re.compile(globs[0] + "".join(name + glob for name, glob in zip(named, globs[1:], strict=True)), re.DOTALL)


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, glob) for glob in globs)
