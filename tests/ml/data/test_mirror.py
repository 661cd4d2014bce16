import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from buckets import Bucket

from ml import settings
from ml.data import cache, datasets, mirror, scanning
from ml.data.listing import PassedOver
from ml.errors import DataError, ParameterError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))


def relative(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_photos_come_once_and_follow_what_changes(
    bucket: Bucket, fill: Callable, picture: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ml.data.mirror")
    photos, url = fill(tmp_path / "photos", {"fox": 3, "wolf at night, #1": 1}), f"{bucket.url}/my photos"
    (photos / "fox" / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\n")
    bucket.put_folder("my photos", photos)
    bucket.put("my photos/film.mp4", b"large")
    bucket.put("my photos/.hidden/photo.jpg", b"private")
    bucket.put("my photos of cats/cat.jpg", b"another folder")

    bucket.put("my photos/fox/no extension", (photos / "fox" / "000.jpg").read_bytes())
    shutil.copy(photos / "fox" / "000.jpg", photos / "fox" / "no extension")
    bucket.put("my photos/@eaDir/x.jpg", b"small")
    here = mirror.folder(url, passed := PassedOver())
    assert relative(here) == relative(photos)
    assert passed.names == {".mp4 files": ["film.mp4"], "files in system folders": ["@eaDir/x.jpg"]}
    assert all((here / name).read_bytes() == (photos / name).read_bytes() for name in relative(photos))
    assert "6 of 6 new or changed photos are here" in caplog.text

    time.sleep(1)  # S3 tells times in seconds
    picture(99).save(photos / "fox" / "000.jpg")
    bucket.put("my photos/fox/000.jpg", (photos / "fox" / "000.jpg").read_bytes())
    bucket.remove("my photos/fox/001.jpg")
    caplog.clear()
    before = (here / "fox" / "002.jpg").stat().st_ino
    assert mirror.folder(url) == here
    assert (here / "fox" / "000.jpg").read_bytes() == (photos / "fox" / "000.jpg").read_bytes()
    assert relative(here) == relative(photos) - {"fox/001.jpg"}
    assert (here / "fox" / "002.jpg").stat().st_ino == before, "what is the same isn't brought again"
    assert "1 of 1 new or changed photos" in caplog.text
    assert "1 that are gone there are removed here" in caplog.text


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert mirror.folder(str(tmp_path)) == tmp_path
    assert mirror.file(f"{tmp_path}/photo.jpg") == tmp_path / "photo.jpg"


def test_a_url_without_photos_is_named_and_what_was_brought_stays(
    bucket: Bucket, fill: Callable, tmp_path: Path
) -> None:
    bucket.put_folder("zoo", fill(tmp_path / "photos", {"fox": 1}))
    here = mirror.folder(f"{bucket.url}/zoo")
    bucket.remove("zoo/fox/000.jpg")
    bucket.put("photo.jpg", b"no folder")
    for url in (f"{bucket.url}/zoo", f"{bucket.url}/photo.jpg"):
        with pytest.raises(DataError, match=f"No photo at {url}: expected objects named .*jpg"):
            mirror.folder(url)
    assert (here / "fox/000.jpg").exists()


@pytest.mark.parametrize(
    ("url", "reason"), [("zoo://bucket/photos", "Protocol not known"), ("az://zoo", "Install adlfs")]
)
def test_an_address_without_a_driver_says_what_to_install(url: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=rf"{url} can't be used: {reason}.*extra s3"):
        mirror.folder(url)


def test_a_machine_that_did_not_scan_finds_the_photos_that_it_needs(
    bucket: Bucket, fill: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder("zoo", fill(tmp_path / "photos", {"fox": 2}))
    table = scanning.scan(mirror.folder(f"{bucket.url}/zoo"), tmp_path / "cache").assign(root=f"{bucket.url}/zoo")
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "another"))
    dataset = datasets.Dataset("fox", "0" * 16, table, tmp_path / "another" / "cache")
    assert (dataset.pixels(1) == cache.get_pixels(tmp_path / "cache", table.sha256[1])).all()
    assert relative(settings.read().home / "mirrors") == {f"s3/{bucket.url.removeprefix('s3://')}/zoo/fox/001.jpg"}
