from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.data import scores
from ml.data.cells import unguarded
from ml.data.scores import Column, Unfinished

COLUMNS = [
    Column("path", pa.string(), "the photo"),
    Column("fox", pa.float32(), "probability, from 0 to 1"),
    Column("problem", pa.string(), "why not"),
]


def rows(*paths: str) -> pd.DataFrame:
    values = np.linspace(0, 1, len(paths), dtype=np.float32)
    return pd.DataFrame({"path": paths, "fox": values, "problem": "", "features": None})


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unfinished:
    monkeypatch.setattr(scores, "CHUNK", 2)
    return Unfinished.begin(tmp_path / "work", "key", "now", [b"a", b"b", b"c\xff", b"d", b"e"])


def test_goes_on_after_the_chunks_that_are_done(work: Unfinished) -> None:
    assert work.n_chunks == 3
    assert list(work.names()) == [b"a", b"b", b"c\xff", b"d", b"e"]
    work.keep(0, rows("a", "b"))
    again = Unfinished.find(work.folder, "key")
    assert again == work
    assert again.n_done == 1
    assert list(again.names()) == [b"c\xff", b"d", b"e"]
    again.keep(1, rows("c", "d"))
    assert [chunk.path.tolist() for chunk in again.chunks()] == [["a", "b"], ["c", "d"]]


def test_other_work_is_not_gone_on_with_and_is_forgotten(work: Unfinished) -> None:
    work.keep(0, rows("a", "b"))
    assert Unfinished.find(work.folder, "other") is None
    anew = Unfinished.begin(work.folder, "other", "later", [b"x"])
    assert anew.n_done == 0
    anew.forget()
    assert Unfinished.find(work.folder, "other") is None


def test_tables_explain_themselves(tmp_path: Path) -> None:
    scores.publish([rows("a", "b"), rows("c")], COLUMNS, ["What it is.", "How to read it."], tmp_path / "scores")
    text = (tmp_path / "scores.csv").read_text(encoding="utf-8-sig")
    assert text.splitlines()[:6] == [
        "# What it is.",
        "# How to read it.",
        "# path: the photo",
        "# fox: probability, from 0 to 1",
        "# problem: why not",
        '"path","fox","problem"',
    ]
    assert (tmp_path / "scores.csv").read_bytes().startswith(b"\xef\xbb\xbf"), "for Excel"
    schema = pq.read_schema(tmp_path / "scores.parquet")
    assert schema.metadata[b"title"] == b"What it is.\nHow to read it."
    assert schema.field("fox").metadata[b"description"] == b"probability, from 0 to 1"
    assert pd.read_parquet(tmp_path / "scores.parquet").path.tolist() == ["a", "b", "c"]


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1), min_size=1)


@settings(max_examples=40, deadline=None)
@given(NAMES)
def test_any_path_can_be_read_again(tmp_path_factory: pytest.TempPathFactory, paths: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "scores"
    scores.publish([rows(*paths)], COLUMNS, ["About # it."], path)
    table = pd.read_csv(path.with_suffix(".csv"), comment="#", dtype={"path": str}, keep_default_na=False)
    assert table.columns.tolist() == ["path", "fox", "problem"]
    assert unguarded(table).path.tolist() == paths
    assert not [path for path in table.path if path.startswith(tuple("=+-@\t"))]
    assert pd.read_parquet(path.with_suffix(".parquet")).path.tolist() == paths


def test_what_can_not_be_scored_has_no_numbers(tmp_path: Path) -> None:
    broken = rows("a", "b").assign(fox=np.array([np.nan, 0.123456], np.float32), problem=["it is empty", ""])
    scores.publish([broken], COLUMNS, [], tmp_path / "scores")
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[-1] == '"b",0.1235,""'
    table = pd.read_csv(tmp_path / "scores.csv", comment="#")
    assert table.fox.isna().tolist() == [True, False]
    assert table.fox[1] == 0.1235
    assert table.problem[0] == "it is empty"


def test_a_table_that_can_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    def die() -> Iterator[pd.DataFrame]:
        yield rows("new")
        raise KeyboardInterrupt

    scores.publish([rows("old")], COLUMNS, [], tmp_path / "scores")
    with pytest.raises(KeyboardInterrupt):
        scores.publish(die(), COLUMNS, [], tmp_path / "scores")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv", "scores.parquet"]
    assert pd.read_csv(tmp_path / "scores.csv", comment="#").path.tolist() == ["old"]
