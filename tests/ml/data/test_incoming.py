import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.data import incoming, photos
from ml.data.incoming import Canvas
from ml.data.listing import PassedOver
from ml.errors import DataError

CANVAS = Canvas(32, 48, (127, 127, 127))


@pytest.fixture
def folder(tmp_path: Path, fill: Callable[[Path, dict[str, int]], Path]) -> Path:
    return fill(tmp_path / "new", {".": 3, "trap 2/night": 4})


def test_the_list_is_sorted_and_has_the_photos_alone(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.jpg").write_bytes(b"")
    assert incoming.listing(folder) == [
        b"000.jpg", b"001.jpg", b"002.jpg", *(f"trap 2/night/{number:03d}.jpg".encode() for number in range(4))
    ]  # fmt: skip


def test_folders_that_can_not_be_listed_are_passed_over(unprivileged, fill: Callable) -> None:
    root = fill(unprivileged.folder / "new", {"trap": 2, "trap/mine": 1})
    with unprivileged():
        (root / "trap/mine").chmod(0)
        assert len(incoming.listing(root, passed=(passed := PassedOver()))) == 2
    assert passed.names == {"folders that can't be listed (Permission denied)": ["trap/mine/"]}


def test_of_too_many_some_are_drawn_the_same_ones_again(folder: Path) -> None:
    drawn = incoming.listing(folder, most=3, seed=1)
    assert len(drawn) == 3
    assert drawn == sorted(drawn)
    assert drawn == incoming.listing(folder, most=3, seed=1)
    assert {tuple(incoming.listing(folder, most=3, seed=seed)) for seed in range(10)} > {tuple(drawn)}
    assert incoming.listing(folder, most=7) == incoming.listing(folder)


@pytest.mark.parametrize(("name", "received"), [("nowhere", "nothing there"), ("new/000.jpg", "a file")])
def test_a_folder_is_expected(folder: Path, name: str, received: str) -> None:
    with pytest.raises(DataError, match=f"{name}. Received: {received}"):
        incoming.listing(folder.parent / name)


def test_a_folder_without_photos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No photo in .* expected JPEG.*Received: no file"):
        incoming.listing(tmp_path)


def test_photos_arrive_in_order_and_broken_ones_say_why(folder: Path) -> None:
    whole = (folder / "000.jpg").read_bytes()
    (folder / "001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "002.jpg").unlink()
    (folder / "trap 2/night/000.jpg").write_bytes(b"<html>")
    (folder / "trap 2/night/001.jpg").unlink()
    (folder / "trap 2/night/001.jpg").symlink_to(folder / "nowhere.jpg")
    names = [*incoming.listing(folder), b"002.jpg"]
    names.insert(2, names.pop())
    arrived = list(incoming.arriving(folder, names, [CANVAS, Canvas(20, 20, None)]))
    assert [photo.path.encode() for photo in arrived] == names
    assert [bool(photo.facts.problem) for photo in arrived] == [False, True, True, True, True, False, False]
    assert [len(photo.images) for photo in arrived] == [2, 0, 0, 0, 0, 2, 2]
    reasons = ["cut short", "not there any more", "an HTML page", "to something that is not there"]
    for photo, reason in zip(arrived[1:5], reasons, strict=True):
        assert reason in str(photo.facts.problem)


def test_a_photo_is_what_it_is_in_training(folder: Path) -> None:
    photo = incoming.read(folder, b"000.jpg", [CANVAS, Canvas(20, 20, None)])
    facts, pixels = photos.inspect((folder / "000.jpg").read_bytes())
    assert pixels is not None
    assert photo.facts == replace(facts, brightness=None, contrast=None, sharpness=None)
    assert np.array_equal(photo.images[0], photos.resize(pixels, 32, 48, (127, 127, 127)))
    assert np.array_equal(photo.images[1], photos.resize(pixels, 20, 20))


def test_names_that_are_no_utf_8_are_read_and_escaped(folder: Path) -> None:
    os.rename(os.fsencode(folder / "000.jpg"), os.fsencode(folder) + b"/f\xfcchs.jpg")
    (name,) = [name for name in incoming.listing(folder) if b"chs" in name]
    photo = incoming.read(folder, name, [CANVAS])
    assert photo.path == "f\\xfcchs.jpg"
    assert photo.images


def test_few_photos_are_decoded_before_they_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "AHEAD", 8)
    begun = threading.Semaphore(0)
    read = incoming.read
    seen: list[bytes] = []

    def counted(root: Path, name: bytes, *rest: Any) -> incoming.Incoming:
        seen.append(name)
        begun.release()
        return read(root, name, *rest)

    monkeypatch.setattr(incoming, "read", counted)
    stream = incoming.arriving(folder, (b"000.jpg" for _ in range(1000)), [CANVAS])
    next(stream)
    stream.close()
    assert len(seen) <= 8
