"""One suite takes a good half second, so that each run of one is asked as much as it can answer."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import black_png
from PIL import Image

from ml.animals import Animal
from ml.data import manifest, scanning
from ml.data.validation import Outcome, pages, refuse_photos, require_dataset
from ml.errors import DataError

FOX = Animal(name="fox", positives=["fox/*"], negatives=["*/*"])


def _add_bad_photos(fox: Path, picture) -> dict[str, str]:
    """Write one photo of each fault into the folder; return how the reason for each begins."""
    photo = picture(0)
    wide = picture(1, 400, 60)
    more = {"save_all": True, "append_images": [picture(2)]}
    photo.save(fox / "original.jpg")
    jpeg = (fox / "original.jpg").read_bytes()
    (fox / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (fox / "empty.jpg").touch()
    (fox / "<img src=x onerror=alert(5)>.jpg").touch()
    shutil.copy(fox / "original.jpg", fox / "z&amp;<script>.jpg")
    (fox / "page.jpg").write_bytes(b"<!DOCTYPE html><title>Not found</title>")
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(fox / "deep.png")
    photo.save(fox / "animated.gif", **more)
    photo.save(fox / "animated.webp", **more)
    (fox / "100 megapixels.png").write_bytes(black_png(10_000, 10_000))
    (fox / "bomb.png").write_bytes(black_png(20_000, 15_000))
    (fox / "z link.jpg").symlink_to(fox / "original.jpg")
    (fox / "broken.jpg").symlink_to(fox / "nowhere.jpg")
    os.mkfifo(fox / "pipe.jpg")
    photo.crop((0, 0, 96, 1)).save(fox / "a row.png")
    picture(3, 31, 40).save(fox / "small.png")
    wide.save(fox / "wide.jpg")
    Image.new("RGB", (64, 64), "black").save(fox / "black.png")
    Image.new("RGB", (64, 64), "white").save(fox / "white.png")
    Image.new("RGB", (64, 64), (90, 120, 90)).save(fox / "blank.jpg")
    ramp = np.tile(np.linspace(100, 110, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    Image.fromarray(ramp).save(fox / "blurred.png")
    shutil.copy(fox / "original.jpg", fox / "z copy.jpg")
    shutil.copy(fox / "original.jpg", fox / "z new\nline {brightness}.jpg")
    shutil.copy(fox / "page.jpg", os.fsencode(fox) + b"/\xff.jpg")
    return {
        "truncated.jpg": "it is a JPEG that is cut short",
        "empty.jpg": "the file is empty (0 bytes)",
        "<img src=x onerror=alert(5)>.jpg": "the file is empty (0 bytes)",
        "z&amp;<script>.jpg": "it is the same file as fox/original.jpg",
        "page.jpg": "it is no photo but an HTML page",
        "deep.png": "its pixels are of mode I;16 (16-bit or floating point); save it with 8 bits",
        "animated.gif": "it is animated or has several pages; save one of them as a photo",
        "animated.webp": "it is animated or has several pages",
        "100 megapixels.png": "it has 100 megapixels; at most 64 are read",
        "bomb.png": "it has far more than 64 megapixels",
        "z link.jpg": "it is the same file as fox/original.jpg",
        "broken.jpg": "it is a symbolic link to something that is not there",
        "pipe.jpg": "it is no regular file",
        "a row.png": "its smallest side is 1 pixels; at least 32 are expected",
        "small.png": "its smallest side is 31 pixels; at least 32 are expected",
        "wide.jpg": "its sides are 6.7 to 1; at most 4 to 1 is expected",
        "black.png": "its mean grey level is 0.0 of 255: nearly black or white",
        "white.png": "its mean grey level is 255.0 of 255: nearly black or white",
        "blank.jpg": "its grey levels vary by 0.0 only: it is blank",
        "blurred.png": "it is blurred beyond use (sharpness 0.0",
        "z copy.jpg": "it is the same file as fox/original.jpg",
        "z new\nline {brightness}.jpg": "it is the same file as fox/original.jpg",
        "\\xff.jpg": "its name is not UTF-8: rename it",
    }


def _add_odd_but_good_photos(fox: Path, picture) -> set[str]:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(10).convert("CMYK").save(fox / "print.jpg")
    picture(11).save(fox / "turned.jpg", exif=exif)
    picture(12).save(fox / "fuchs 🦊\n.jpg")
    picture(13).convert("L").save(fox / "grey.png")
    picture(14).convert("P").save(fox / "palette.gif")
    seen_through = picture(15).convert("RGBA")
    seen_through.putalpha(180)
    seen_through.save(fox / "seen through.png")
    picture(16).save(fox / "phone.jpg", "MPO", save_all=True, append_images=[picture(17)])
    picture(18, 32, 128).save(fox / "just tall enough.webp")
    (fox / "folder.jpg").mkdir()
    picture(19).save(fox / "folder.jpg" / "inside.tif")
    return {"print.jpg", "turned.jpg", "fuchs 🦊\n.jpg", "grey.png", "palette.gif", "seen through.png", "phone.jpg",
            "just tall enough.webp", "folder.jpg/inside.tif", "original.jpg"}  # fmt: skip


@dataclass
class Refusal:
    table: pd.DataFrame
    expected: dict[str, str]
    good: set[str]
    reasons: dict[str, str]
    outcome: Outcome
    docs: Path


@pytest.fixture(scope="module")
def refusal(tmp_path_factory: pytest.TempPathFactory, fill, picture) -> Refusal:
    folder = tmp_path_factory.mktemp("refusal")
    root = fill(folder / "photos", {"fox": 2, "cat": 4})
    expected = _add_bad_photos(root / "fox", picture)
    good = _add_odd_but_good_photos(root / "fox", picture)
    # The same failed download on both sides is no contradiction.
    shutil.copy(root / "fox" / "page.jpg", root / "cat" / "page.jpg")
    table = manifest.draft(scanning.scan(root, folder / "cache"), FOX)
    return Refusal(table, expected, good, *refuse_photos(table, folder / "docs"), folder / "docs")


def test_every_bad_photo_is_left_out_with_its_own_reason(refusal: Refusal) -> None:
    reasons = {path.removeprefix("fox/"): reason for path, reason in refusal.reasons.items()}
    assert reasons.pop("cat/page.jpg").startswith("it is no photo but an HTML page")
    assert set(reasons) == set(refusal.expected)
    assert [(name, reason) for name, reason in reasons.items() if not reason.startswith(refusal.expected[name])] == []


def test_data_docs_show_names_and_run_none_of_them(refusal: Refusal) -> None:
    page = refusal.outcome.page.read_text() + "".join(path.read_text() for path in pages(refusal.docs))
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_odd_photos_that_can_be_used_are_accepted(refusal: Refusal) -> None:
    made = manifest.accept(refusal.table, refusal.reasons, None, 2)
    used = set(manifest.used_rows(made).path.str.removeprefix("fox/"))
    assert used == refusal.good | {f"{number:03d}.jpg" for number in range(2)} | {f"cat/{n:03d}.jpg" for n in range(4)}
    turned = made.set_index("path").loc["fox/turned.jpg"]
    assert (turned.width, turned.height) == (64, 96)


def test_data_docs_name_the_photos(refusal: Refusal) -> None:
    assert refusal.outcome.page is not None
    page = refusal.outcome.page.read_text()
    assert "fox/truncated.jpg" in page
    assert "fox/blank.jpg" in page
    assert "fox/grey.png" not in page
    site = refusal.outcome.page.parents
    assert any((folder / "index.html").exists() for folder in site)


def test_the_same_photo_as_the_animal_and_as_another_stops_and_both_paths_are_named(tmp_path: Path, fill) -> None:
    root = fill(tmp_path / "photos", {"fox": 3, "cat": 3})
    shutil.copy(root / "fox" / "000.jpg", root / "cat" / "stray.jpg")
    with pytest.raises(DataError) as caught:
        refuse_photos(manifest.draft(scanning.scan(root, tmp_path / "cache"), FOX), tmp_path / "docs")
    said = str(caught.value)
    assert said.startswith("The same photo is filed both as the animal and as another")
    assert "Photos: 'cat/stray.jpg', 'fox/000.jpg'. To do: delete the wrong copies. Data Docs: " in said
    page = Path(said.split("Data Docs: ")[1])
    assert "cat/stray.jpg" in page.read_text()


def test_if_every_photo_is_bad_each_has_its_reason(tmp_path: Path) -> None:
    for name in ("fox", "cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(name.encode())
    table = manifest.draft(scanning.scan(tmp_path / "photos", tmp_path / "cache"), FOX)
    reasons, _ = refuse_photos(table, tmp_path / "docs")
    assert set(reasons) == {"fox/1.jpg", "cat/1.jpg"}
    assert all(reason.startswith("it is no photo but a text file") for reason in reasons.values())


def _made(positives: int, negatives: int, left_out: int = 0) -> pd.DataFrame:
    """Return an accepted manifest of that many photos, all unlike, in two folds."""
    count = positives + negatives + left_out
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "path": [f"{'fox' if n < positives else 'cat'}/{n:03d}.jpg" for n in range(count)],
            "sha256": [f"{n:064x}" for n in range(count)],
            "label": [int(n < positives) for n in range(count)],
            "brightness": random.normal(120, 20, count),
            "sharpness": random.normal(8, 2, count),
            "group": [f"{n:016x}" for n in range(count)],
            "fold": pd.array([n % 2 for n in range(count)], "Int8"),
            "reason": [""] * (count - left_out) + ["it is blank"] * left_out,
        }
    )
    table.loc[table.reason != "", ["group", "fold"]] = ["", pd.NA]
    return table


def test_a_good_dataset_passes_and_does_not_drift_from_itself(tmp_path: Path) -> None:
    made = _made(30, 40, left_out=10)
    warnings, outcome = require_dataset(made, made, tmp_path)
    assert warnings == []
    assert outcome.failed == []
    assert outcome.page is not None
    assert outcome.page.exists()


def test_drift_warns_and_does_not_stop(tmp_path: Path) -> None:
    made = _made(30, 40)
    warnings, _ = require_dataset(made.assign(brightness=made.brightness + 60), made, tmp_path)
    assert [warning.split(" (")[0] for warning in warnings] == [
        "the photos' brightness has drifted since the last accepted version"
    ]
    assert "observed: " in warnings[0]


SUM = "at least 10 accepted photos are expected (expect_column_sum_to_be_between)"
held_out = _made(20, 12).assign(fold=pd.array([-1] * 12 + [0, 1] * 10, "Int8"))
cut = _made(12, 12).assign(group=[f"{n // 2:016x}" for n in range(24)])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_made(9, 40), f"Too few positives: {SUM}. Received: 9. To do: add photos of the animal. Data Docs: "),
        (_made(40, 9), f"Too few negatives: {SUM}. Received: 9. To do: add photos of other animals. Data Docs: "),
        (held_out, f"Too few positives: {SUM}. Received: 8. To do: add photos of the animal."),
        (
            _made(12, 12, left_out=7),
            "More than 20% of the photos were left out (expect_column_mean_to_be_between). Received: 0.2258",
        ),
        (_made(190, 10), "The share of positives is outside 0.002 to 0.9"),
        (
            cut,
            "Photos that belong together stand in different folds (expect_column_values_to_be_between). "
            "Photos: 'fox/000.jpg', 'fox/001.jpg', ",
        ),
    ],
)
def test_a_dataset_that_can_not_be_trained_on_stops_with_what_to_do(
    made: pd.DataFrame, says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        require_dataset(made, None, tmp_path)
    assert str(caught.value).startswith(says)
    assert ". To do: " in str(caught.value)
    assert Path(str(caught.value).split("Data Docs: ")[1]).exists()


def test_a_long_list_of_photos_is_cut_and_counted(tmp_path: Path) -> None:
    made = _made(12, 12).assign(group="0" * 16)
    with pytest.raises(DataError, match=r"'fox/009.jpg' and 14 more. To do: "):
        require_dataset(made, None, tmp_path)
