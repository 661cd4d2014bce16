import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.data import cache, photos, scanning
from ml.data.listing import PassedOver
from ml.errors import DataError


@pytest.fixture
def root(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "photos", {"fox": 4, "cat": 3, "wolf": 3})


def test_a_row_a_photo_with_its_facts_and_its_pixels_in_the_cache(root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = scanning.scan(root, tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert table.path.tolist() == [
        f"{name}/{n:03d}.jpg" for name, count in (("cat", 3), ("fox", 4), ("wolf", 3)) for n in range(count)
    ]
    assert table.problem.isna().all()
    assert (table.width == 96).all()
    assert seen == [(done, 10) for done in range(1, 11)]
    row = table.iloc[0]
    data = (root / row.path).read_bytes()
    assert (row.sha256, row.bytes) == (scanning.sha256_of(data), len(data))
    np.testing.assert_array_equal(cache.get_pixels(tmp_path / "cache", row.sha256), photos.inspect(data)[1])


def test_rows_are_sorted_by_path_and_other_files_passed_over(root: Path, tmp_path: Path) -> None:
    photo = root / "fox" / "000.jpg"
    for name in ("fox b/1.JPG", "fox/x.jpg/inside.jpeg", "zebra.jpg", "a.jpe", "fox/000/deep/1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, root / name)
    for name in (".hidden.jpg", "Thumbs.db", "fox/.trash/1.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(photo, root / name)
    (root / "notes.txt").write_text("mine")
    paths = scanning.scan(root, tmp_path / "cache").path.tolist()
    assert paths == sorted(paths)
    assert set(paths) >= {"fox b/1.JPG", "fox/x.jpg/inside.jpeg", "zebra.jpg", "a.jpe", "fox/000/deep/1.jpg"}
    assert len(paths) == 10 + 5


@pytest.mark.parametrize("name", ["new\nline.jpg", "fuchs 🦊 ü.jpg", "-rf.jpg", "a'b\"c.jpg", "50%{x}.jpg"])
def test_odd_names_are_good_names(name: str, root: Path, tmp_path: Path) -> None:
    (root / "fox" / "000.jpg").rename(root / "fox" / name)
    table = scanning.scan(root, tmp_path / "cache")
    assert table.set_index("path").problem.isna()[f"fox/{name}"]
    table.to_parquet(tmp_path / "table.parquet")


@pytest.mark.parametrize("name", ["x.jfif", "x.jpg_large", "x", "x.dat", "x.cr2", "x.JPEG~", "x.heic", "x.png"])
def test_a_jpeg_is_a_photo_under_any_name_or_none(name: str, root: Path, tmp_path: Path) -> None:
    (root / "fox" / "000.jpg").rename(root / "fox" / name)
    table = scanning.scan(root, tmp_path / "cache", passed=(passed := PassedOver()))
    assert table.set_index("path").problem.isna()[f"fox/{name}"]
    assert passed.count == 0


def test_what_is_passed_over_is_counted_and_named_by_kind(root: Path, tmp_path: Path) -> None:
    photo = root / "fox" / "000.jpg"
    folders = ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "#recycle", "__MACOSX", ".trash")
    for folder in folders:
        (root / folder).mkdir()
        shutil.copy(photo, root / folder / "copy.jpg")
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "notes.txt", "Thumbs.db", ".DS_Store"):
        (root / "fox" / name).write_bytes(b"\0\0\0\x20ftypisom")
    for name in ("a.dng", "b.NEF"):
        (root / "fox" / name).write_bytes(b"II*\0 and so on")
    (root / "fox" / "boxes.csv").touch()
    Path(os.fsdecode(os.fsencode(root) + b"/b\xe4r.pdf")).touch()
    (root / "loop").symlink_to(root)
    (root / "tiger").symlink_to(root / "fox")
    table = scanning.scan(root, tmp_path / "cache", passed=(passed := PassedOver()))
    assert len(table) == 10
    assert sorted(passed.names["system folders"]) == sorted(f"{name}/" for name in folders[:-1])
    assert passed.count == len(folders) + 7 + 2 + 2 + 1
    said = passed.sentence()
    for part in (
        "4 .mp4 files (fox/a.mp4, fox/b.mp4, fox/c.mp4, …)",
        "1 .txt files (fox/notes.txt)",
        r"1 .pdf files (b\xe4r.pdf)",
        "1 .dng files (raw: export them as JPEG) (fox/a.dng)",
        "1 .nef files (raw: export them as JPEG) (fox/b.NEF)",
        "2 links to folders (not followed: put the folder itself here) (loop/, tiger/)",
        "1 hidden folders (.trash/)",
        "1 system files (fox/Thumbs.db)",
        "1 hidden files (fox/.DS_Store)",
    ):
        assert part in said
    assert passed.table()["count"].sum() == passed.count


def test_links_to_photos_are_followed(root: Path, tmp_path: Path) -> None:
    store = tmp_path / ".dvc"
    store.mkdir()
    for number, photo in enumerate(sorted(root.rglob("*.jpg"))):
        photo.rename(store / str(number))
        photo.symlink_to(store / str(number))
    table = scanning.scan(root, tmp_path / "cache")
    assert len(table) == 10
    assert table.problem.isna().all()


def test_what_is_no_readable_file_has_its_reason_and_stops_nothing(root: Path, tmp_path: Path) -> None:
    photo, fox = root / "fox" / "000.jpg", root / "fox"
    os.mkfifo(fox / "pipe.jpg")
    (fox / "zero.jpg").symlink_to("/dev/zero")
    (fox / "outside.jpg").symlink_to("/etc/hostname")
    (fox / "broken.jpg").symlink_to(fox / "nowhere.jpg")
    (fox / "circle.jpg").symlink_to(fox / "circle.jpg")
    shutil.copy(photo, os.fsencode(fox) + b"/caf\xe9.jpg")
    (fox / "empty.jpg").touch()
    (fox / "page.jpg").write_bytes(b"<html>")
    table = scanning.scan(root, tmp_path / "cache")
    problems = table[table.problem.notna()].set_index("path").problem.to_dict()
    link = "it is a symbolic link to something that is not there, or goes round in circles"
    assert problems == {
        "fox/pipe.jpg": "it is no regular file",
        "fox/zero.jpg": "it is no regular file",
        "fox/outside.jpg": "it is no photo but a text file",
        "fox/broken.jpg": link,
        "fox/circle.jpg": link,
        "fox/caf\\xe9.jpg": "its name is not UTF-8: rename it",
        "fox/empty.jpg": "the file is empty (0 bytes)",
        "fox/page.jpg": "it is no photo but an HTML page: the download brought an answer in words",
    }
    assert table.problem.isna().sum() == 10


def test_a_file_far_too_large_is_not_read_into_memory(root: Path, tmp_path: Path) -> None:
    (root / "fox" / "film.jpg").touch()
    os.truncate(root / "fox" / "film.jpg", 600_000_000)
    tracemalloc.start()
    table = scanning.scan(root, tmp_path / "cache").set_index("path")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.problem["fox/film.jpg"] == "the file has 600 MB; at most 100 are read"
    assert peak < 100_000_000


def test_rights_that_lack_are_named(unprivileged, fill) -> None:
    root = fill(unprivileged.folder / "photos", {"fox": 2, "cat": 2})
    (root / "fox" / "000.jpg").chmod(0)
    with unprivileged():
        table = scanning.scan(root, unprivileged.folder / "cache").set_index("path")
    assert table.problem.dropna().to_dict() == {"fox/000.jpg": "it can't be read: Permission denied"}
    for name in ("lost+found", "private", "fox/2024"):
        (root / name).mkdir()
    with unprivileged():
        (root / "lost+found").chmod(0)
        (root / "private").chmod(0)
        table = scanning.scan(root, unprivileged.folder / "cache", passed=(passed := PassedOver()))
    assert len(table) == 4
    assert passed.names == {
        "system folders": ["lost+found/"],
        "folders that can't be listed (Permission denied)": ["private/"],
    }
    (root / "fox" / "2024").chmod(0)
    with unprivileged(), pytest.raises(DataError, match=r"fox/2024 can't be listed: Permission denied.*rights"):
        scanning.scan(root, unprivileged.folder / "cache")


def test_a_root_that_is_missing_a_file_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"at .*/none. Received: nothing there.\n.*menagerie sample .*/none\n.*make up PHOTOS",
    ):
        scanning.scan(tmp_path / "none", tmp_path / "cache")
    (tmp_path / "file.zip").touch()
    with pytest.raises(DataError, match="Received: a file"):
        scanning.scan(tmp_path / "file.zip", tmp_path / "cache")
    (tmp_path / "empty" / "fox").mkdir(parents=True)
    (tmp_path / "empty" / "fox" / "notes.txt").touch()
    with pytest.raises(
        DataError,
        match=r"No photo below .*/empty: expected JPEG.* Received: passed over: 1 .txt files \(fox/notes.txt\)",
    ):
        scanning.scan(tmp_path / "empty", tmp_path / "cache")


def test_a_known_photo_is_not_decoded_again_even_if_it_was_renamed(root: Path, tmp_path: Path) -> None:
    scanning.scan(root, tmp_path / "cache")
    facts = pd.read_parquet(cache.decoded(tmp_path / "cache") / "facts.parquet")
    facts.assign(brightness=77.0).to_parquet(cache.decoded(tmp_path / "cache") / "facts.parquet")
    (root / "fox" / "000.jpg").rename(root / "fox" / "renamed.jpg")
    table = scanning.scan(root, tmp_path / "cache")
    assert (table.brightness == 77).all(), "facts come from the first scan"
    pixels = next((cache.decoded(tmp_path / "cache") / "pixels").rglob("*.npy"))
    pixels.unlink()
    table = scanning.scan(root, tmp_path / "cache")
    assert (table.brightness != 77).sum() == 1, "what the cache has lost is decoded again"
    assert pixels.exists()


def test_scans_agree_whether_or_not_facts_were_kept(root: Path, tmp_path: Path) -> None:
    first = scanning.scan(root, tmp_path / "cache")
    pd.testing.assert_frame_equal(scanning.scan(root, tmp_path / "cache"), first)


@pytest.mark.parametrize("damage", ["cut short", "of an older version"])
def test_facts_that_can_not_be_used_are_made_again(damage: str, root: Path, tmp_path: Path) -> None:
    first = scanning.scan(root, tmp_path / "cache")
    file = cache.decoded(tmp_path / "cache") / "facts.parquet"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:500])
    else:
        pd.read_parquet(file).drop(columns="sharpness").to_parquet(file)
    pd.testing.assert_frame_equal(scanning.scan(root, tmp_path / "cache"), first)
    assert set(pd.read_parquet(file).columns) >= set(scanning.FACTS)


def test_a_folder_of_bad_photos_only_is_scanned_too(tmp_path: Path) -> None:
    (tmp_path / "photos" / "fox").mkdir(parents=True)
    (tmp_path / "photos" / "fox" / "1.jpg").write_bytes(b"<html>")
    table = scanning.scan(tmp_path / "photos", tmp_path / "cache")
    assert table.problem.notna().all()
