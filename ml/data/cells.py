"""Names in tables that people open in Excel: what begins like a formula there is written as what it is, a path."""

import re

import pandas as pd

FORMULA = re.compile(r"^(?=(?:\./)*[=+\-@\t\r])")
WRITTEN = re.compile(r"^\./(?=(?:\./)*[=+\-@\t\r])")


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `./` before each text that begins as a formula does; before a path it changes nothing."""
    return _replaced(table, FORMULA, "./")


def unguarded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table that `guarded` was given."""
    return _replaced(table, WRITTEN, "")


def _replaced(table: pd.DataFrame, pattern: re.Pattern[str], by: str) -> pd.DataFrame:
    replaced = table.copy(deep=False)
    for name in table.columns:
        if pd.api.types.is_string_dtype(table[name]) or table[name].dtype == object:
            cells = [pattern.sub(by, cell, count=1) if isinstance(cell, str) else cell for cell in table[name]]
            replaced[name] = pd.Series(cells, table.index, table[name].dtype)
    return replaced
