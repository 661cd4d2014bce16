"""A TOML file read table by table: what is wrong in one table leaves the others readable, and is known by its line."""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ml.errors import ParameterError

HEADING = re.compile(
    r"""\s*(?:\[+\s*["']?([^\[\]."'#,=/*\\]+?)["']?\s*(?:[\].#]|$)|([A-Za-z_][\w-]*)\s*\]\s*(?:#|$))"""
)
"""The first line of a table, also with one of its brackets missing."""
WIDE = (b"\xff\xfe", b"\xfe\xff")
"""What files in UTF-16 and UTF-32 begin with."""


@dataclass(frozen=True)
class Fault:
    """Why a table can't be used."""

    file: Path
    line: int
    table: str
    """Its heading; empty for what stands above the first table."""
    text: str
    """What was expected and what was received."""

    def __str__(self) -> str:
        where = f"table [{self.table}]" if self.table else "above the first table"
        return f"{self.file}, line {self.line}, {where}: {self.text}"


@dataclass(frozen=True)
class Tables:
    """The tables of a TOML file."""

    file: Path
    lines: list[str]
    """Bytes that aren't UTF-8 are lone surrogates."""

    @classmethod
    def read(cls, file: Path) -> "Tables":
        """Read a file in UTF-8, with or without a byte order mark.

        Raises:
            ParameterError: there is no such file, or it is in UTF-16 or UTF-32.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ParameterError(f"Expected the table of animals at {file}. Received: {error.strerror}") from error
        if content.startswith(WIDE) or b"\0" in content:
            raise ParameterError(f"{file}, line 1: the file is saved as UTF-16 or is binary. Save it as UTF-8.")
        text = content.decode("utf-8-sig", errors="surrogateescape")
        return cls(file, text.replace("\r\n", "\n").split("\n"))

    @cached_property
    def headings(self) -> list[str]:
        """The heading of the table that each line is in, up to its first dot."""
        headings, heading = [], ""
        for line in self.lines:
            if found := HEADING.match(line):
                heading = (found[1] or found[2]).strip()
            headings.append(heading)
        return headings

    def parse(self) -> tuple[dict[str, Any], list[Fault]]:
        """Return the values by heading, and what is wrong; what can't be read is left out of the values."""
        try:
            return tomllib.loads(_checked("\n".join(self.lines))), []
        except (tomllib.TOMLDecodeError, UnicodeEncodeError):
            values: dict[str, Any] = {}
            faults = []
            for heading in dict.fromkeys(self.headings):
                try:
                    values |= tomllib.loads(_checked(self._alone(heading)))
                except tomllib.TOMLDecodeError as error:
                    faults.append(self._syntax_fault(heading, str(error)))
                except UnicodeEncodeError as error:
                    faults.append(self._encoding_fault(heading, error))
            return values, faults

    def line_of(self, heading: str, key: str = "") -> int:
        """Return the number of the line where a key of a table stands, or if there is none, its heading."""
        mine = [number for number, each in enumerate(self.headings, 1) if each == heading]
        name, above = re.escape(key), re.escape(heading)
        named = re.compile(rf"""\s*(?:\[\s*["']?{above}["']?\s*\.\s*)?["']?{name}["']?\s*[=.\]]""")
        of_key = [number for number in mine if key and named.match(self.lines[number - 1])]
        # A heading that is no name, and tables in one line, are found by their text.
        by_text = [number for number, line in enumerate(self.lines, 1) if heading in line.partition("#")[0]]
        return next(iter([*of_key, *mine, *by_text]), 1)

    def fault(self, heading: str, key: str, text: str) -> Fault:
        return Fault(self.file, self.line_of(heading, key), heading, text)

    def _alone(self, heading: str) -> str:
        """Return the text of one table, with its lines at the numbers that they have in the file."""
        mine = [line if each == heading else "" for line, each in zip(self.lines, self.headings, strict=True)]
        return "\n".join(mine).rstrip("\n")

    def _syntax_fault(self, heading: str, message: str) -> Fault:
        reason, _, where = message.partition(" (at ")
        found = re.match(r"line (\d+)", where)
        line = int(found[1]) if found else self._alone(heading).count("\n") + 1
        reason = re.sub(r"\('(.+?)',?\)", lambda path: f"[{path[1].replace(chr(39) + ', ' + chr(39), '.')}]", reason)
        text = f"it is not TOML: {reason}. Received: {self.lines[line - 1].strip() or 'an empty line'}"
        return Fault(self.file, line, heading, text)

    def _encoding_fault(self, heading: str, error: UnicodeEncodeError) -> Fault:
        line = str(error.object).count("\n", 0, error.start) + 1
        shown = self.lines[line - 1].encode(errors="surrogateescape").decode("latin-1").strip()
        text = f"the line is not UTF-8. Save the file as UTF-8. Received, read as Latin-1: {shown}"
        return Fault(self.file, line, heading, text)


def _checked(text: str) -> str:
    """Return the text.

    Raises:
        UnicodeEncodeError: a part of it was not UTF-8.
    """
    text.encode()
    return text
