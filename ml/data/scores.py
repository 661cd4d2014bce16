"""Tables of scores: written a chunk at a time, so that a killed scoring goes on, then put together without being held.

What is unfinished is one folder: the list of photos, and a file for each chunk of it that is done.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ml.data import store
from ml.data.cells import guarded
from ml.data.files import remove, replacing

CHUNK = 1024
"""Photos a chunk: what a killed scoring loses at most."""


@dataclass(frozen=True)
class Column:
    """A column of a published table."""

    name: str
    type: pa.DataType
    text: str
    """What it means, in words."""


@dataclass(frozen=True)
class Unfinished:
    """A scoring that is under way."""

    folder: Path
    key: str
    """What is done to the photos; other work is not gone on with."""
    started: str
    """When it was begun."""
    n_photos: int

    @classmethod
    def find(cls, folder: Path, key: str) -> "Unfinished | None":
        """Return what an earlier try of the same work left in `folder`, if anything."""
        store.renew_folder(folder)
        try:
            stored = pq.read_metadata(folder / "photos.parquet")
        except FileNotFoundError:
            return None
        if stored.metadata[b"key"].decode() != key:
            return None
        return cls(folder, key, stored.metadata[b"started"].decode(), stored.num_rows)

    @classmethod
    def begin(cls, folder: Path, key: str, started: str, names: Sequence[bytes]) -> "Unfinished":
        """Begin anew: whatever was in `folder` is forgotten."""
        remove(folder)
        table = pa.table({"name": pa.array(names, pa.binary())}).replace_schema_metadata(
            {"key": key, "started": started}
        )
        with replacing(folder / "photos.parquet") as aside:
            pq.write_table(table, aside, row_group_size=CHUNK)
        return cls(folder, key, started, len(names))

    @property
    def n_chunks(self) -> int:
        return -(-self.n_photos // CHUNK)

    @property
    def n_done(self) -> int:
        """Chunks that are done, all from the first on."""
        return sum(1 for _ in self.folder.glob("chunk-*.parquet"))

    def names(self) -> Iterator[bytes]:
        """Yield the photos of the chunks that are not done."""
        with pq.ParquetFile(self.folder / "photos.parquet") as file:
            for number in range(self.n_done, self.n_chunks):
                yield from file.read_row_group(number)["name"].to_pylist()

    def keep(self, number: int, rows: pd.DataFrame) -> None:
        """Keep chunk `number`."""
        with replacing(self._chunk(number)) as aside:
            rows.to_parquet(aside, index=False)

    def chunks(self) -> Iterator[pd.DataFrame]:
        """Yield the chunks that are done, in order."""
        for number in range(self.n_done):
            yield pd.read_parquet(self._chunk(number))

    def forget(self) -> None:
        remove(self.folder)

    def _chunk(self, number: int) -> Path:
        return self.folder / f"chunk-{number:07d}.parquet"


def publish(chunks: Iterable[pd.DataFrame], columns: Sequence[Column], title: Sequence[str], path: Path) -> None:
    """Write the columns of all chunks to `path` with the suffixes `.csv` and `.parquet`, holding one chunk at a time.

    Both explain themselves: the CSV file by lines that begin with `#`, the `title` and a line a column; the Parquet
    file by the metadata of its schema (`title`) and of its fields (`description`).
    """
    schema = pa.schema(
        [pa.field(one.name, one.type, metadata={"description": one.text}) for one in columns],
        metadata={"title": "\n".join(title)},
    )
    names = [column.name for column in columns]
    header = [*title, *(f"{column.name}: {column.text}" for column in columns)]
    with (
        replacing(path.with_suffix(".parquet")) as binary,
        replacing(path.with_suffix(".csv")) as text,
        pq.ParquetWriter(binary, schema) as writer,
        # Excel takes a file for UTF-8 if it begins with the byte order mark.
        text.open("w", encoding="utf-8-sig", newline="") as lines,
    ):
        lines.writelines(f"# {line}\n" for line in header)
        csv.writer(lines, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(names)
        for chunk in chunks:
            rows = chunk[names]
            writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))
            # Quoted, a path may hold commas, and a # that is no comment.
            guarded(rows.round(4)).to_csv(lines, index=False, header=False, quoting=csv.QUOTE_NONNUMERIC)
