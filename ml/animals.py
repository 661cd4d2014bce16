"""The animals, read from `animals.toml`: which photos are positives and negatives, and what is wanted.


A table that can't be used stops its animal alone: `read` returns the others, and `faults` says what is wrong.
"""

import difflib
import json
import re
import unicodedata
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from ml.errors import ParameterError
from ml.presets import PresetName
from ml.tables import Fault, Tables

NAME = r"^[a-z][a-z0-9_]{0,39}$"
SCHEDULES = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
CRON_FIELDS = 5
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "images"})
"""Folders that divide a dataset and are no class, where they hold folders."""
NAME_IN_WORDS = "at most 40 lower-case letters, digits and underscores, of which the first is a letter"


class Animal(BaseModel):
    """One table of `animals.toml`. The description of a field says what it must be, in TOML's words.

    Globs are matched against the photo's path below the photo root, and below folders such as `train` and `test` too
    (see `below_splits`). `*` crosses folders, and case counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    positives: tuple[str, ...] = Field(min_length=1, description='a list of globs, such as ["fox/*"]')
    """Photos of the animal: those that match any of these globs."""
    negatives: tuple[str, ...] = Field(min_length=1, description='a list of globs, such as ["*/*"]')
    """Photos of other animals, in order of preference: the first glob that finds any is used, less the positives."""
    holdout: tuple[str, ...] = Field((), description='a list of globs, such as ["outside/*"]')
    """Photos (of either kind) that never train and only test."""
    gan: bool = Field(False, description="true or false")
    """Whether a GAN is trained on the positives."""
    group: str = Field(
        "",
        description='a pattern with one or more parts in braces, each named once, such as "*/{site}/*" or '
        '"*/{camera}_{day}_*", or "" for none',
    )
    """Photos that belong together (a site, a camera, a sequence): those whose paths have the same parts in braces."""
    apart: dict[str, tuple[str, ...]] = Field(
        {}, description='lists of globs by name, such as apart.pups = ["wolf/pup*"]'
    )
    """Photos of the animal, by a name for them, without which the numbers are given once more (coyotes among foxes)."""
    schedule: str = Field(
        "@weekly",
        description='five cron fields that meet some day, such as "0 3 * * 1" (Mondays at 3:00 UTC), or one of '
        f'{", ".join(SCHEDULES)}, or "" for never',
    )
    """When it is retrained even if no new photos come, as a cron expression (UTC) or a preset; empty: never."""
    preset: PresetName | Literal[""] = Field("", description='"quick", "standard" or "thorough"')
    """How much its retraining tries; empty: as the installation is set."""
    require_approval: bool = Field(False, description="true or false")
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
                raise ValueError("no schedule") from error
        return text

    @field_validator("group")
    @classmethod
    def _is_a_pattern(cls, text: str) -> str:
        if text:
            _group_pattern(text)
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

    def scene(self, path: str) -> str:
        """Return what the path says of which photos it belongs with; empty if `group` isn't given or doesn't match."""
        found = _group_pattern(self.group).fullmatch(path) if self.group else None
        return "; ".join(f"{name} {part}" for name, part in found.groupdict().items()) if found else ""

    def choose_negatives(self, paths: list[str]) -> list[str]:
        """Return those of `paths` that are this animal's negatives (may be none)."""
        others = [path for path in paths if not self.is_positive(path)]
        found = ([path for path in others if _matches(path, (glob,))] for glob in self.negatives)
        return next(filter(None, found), [])


def indefinite(name: str) -> str:
    """Return the name of an animal with its article: "a fox", "an elephant"."""
    return f"{'an' if name[:1] in 'aeiou' and not name.startswith(('uni', 'eu')) else 'a'} {name.replace('_', ' ')}"


def read(path: Path) -> dict[str, Animal]:
    """Return the animals of the file `path` whose tables can be used, by name, in the file's order.

    Raises:
        ParameterError: the file is missing, is in UTF-16, or names no animal.
    """
    return _load(path)[0]


def faults(path: Path) -> dict[str, list[Fault]]:
    """Return what is wrong with the other tables, by heading; under an empty one, with what stands above the first.

    Raises:
        ParameterError: as `read`.
    """
    return _load(path)[1]


def all_faults(path: Path) -> list[Fault]:
    """Return what is wrong with any table, as `faults` does, in one list."""
    return [fault for found in faults(path).values() for fault in found]


def _load(path: Path) -> tuple[dict[str, Animal], dict[str, list[Fault]]]:
    tables = Tables.read(path)
    values, unreadable = tables.parse()
    if not values and not unreadable:
        raise ParameterError(f"{path} names no animal. Expected a table such as [fox] with positives and negatives.")
    animals: dict[str, Animal] = {}
    wrong: dict[str, list[Fault]] = {}
    for fault in unreadable:
        wrong.setdefault(fault.table, []).append(fault)
    for name, table in values.items():
        if errors := _errors(name, table):
            wrong.setdefault(name, []).extend(tables.fault(name, key, text) for key, text in errors)
        elif name not in wrong:
            animals[name] = Animal(name=name, **table)
    return animals, wrong


def _errors(name: str, table: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a table, by key, as a person would say it who knows TOML and not pydantic."""
    if not isinstance(table, dict):
        return [("", f"expected a table, with [{name}] as its heading. Received: {name} = {_toml(table)}")]
    if "name" in table:
        return [("name", f"name is not a key of an animal: its name is the heading, [{name}]")]
    try:
        Animal(name=name, **table)
    except ValidationError as error:
        # Of a value that may be one of several things, pydantic says of each that it isn't that.
        return list(dict.fromkeys((str(each["loc"][0]), _in_words(each)) for each in error.errors()))
    return []


def _in_words(error: ErrorDetails) -> str:
    key, received = str(error["loc"][0]), _toml(error["input"])
    if key == "name":
        return f"the name of an animal must be {NAME_IN_WORDS}, such as [red_fox]. Received: [{error['input']}]"
    if error["type"] == "extra_forbidden":
        keys = [each for each in Animal.model_fields if each != "name"]
        nearest = "".join(f" Did you mean {each}?" for each in difflib.get_close_matches(key, keys, 1, 0.7))
        return f"{key} is not a key of an animal.{nearest} Keys: {', '.join(keys)}. Received: {received}"
    expected = Animal.model_fields[key].description
    if error["type"] == "missing":
        return f"{key} is missing. It must be {expected}"
    return f"{key} must be {expected}. Received: {received}"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


@cache
def _group_pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression of a `group`: `{site}` is a part of one name, `*` and `?` are as in globs.

    Each takes as little as it can, from the left.
    """
    parts = re.split(r"\{([A-Za-z]\w*)\}", text)
    names, between = parts[1::2], parts[::2]
    if not names or len(set(names)) < len(names) or any(set(part) & set("{}") for part in between):
        raise ValueError("no pattern")
    globs = [re.escape(part).replace(r"\*", ".*?").replace(r"\?", ".") for part in between]
    named = [f"(?P<{name}>[^/]+?)" for name in names]
    return re.compile(globs[0] + "".join(name + glob for name, glob in zip(named, globs[1:], strict=True)), re.DOTALL)


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
