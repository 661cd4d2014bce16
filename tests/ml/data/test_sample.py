import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.crops import BOXES, cut, middle, read_boxes
from ml.data.drawings import ANIMALS
from ml.data.sample import TRAINED, draw_picture, draw_samples
from ml.data.scanning import scan
from ml.errors import DataError, StorageError


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "deep" / "sample"
    assert draw_samples(root, per_class=8, others=3) == 8 * 3 + 3 * 7
    return root


def test_there_is_a_folder_a_class_with_the_number_of_drawings_asked_for(root: Path) -> None:
    counts = {folder.name: len(list(folder.glob("*.jpg"))) for folder in root.iterdir() if folder.is_dir()}
    assert counts == {name: 8 if name in TRAINED else 3 for name in ANIMALS}
    assert (root / "fox" / "fox_000.jpg").is_file()
    assert list(root.parent.iterdir()) == [root], "nothing is left beside the folder"


def test_the_same_seed_gives_the_same_bytes_however_many_are_drawn(root: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path / "again", per_class=2, others=1)
    again, first = _files(tmp_path / "again"), _files(root)
    assert again == {name: first[name] for name in again}


def test_another_seed_gives_other_drawings(root: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path / "other", per_class=1, others=0, seed=1)
    assert not set(_files(tmp_path / "other").values()) & set(_files(root).values())


def test_every_drawing_decodes_as_an_rgb_jpeg_of_the_promised_size_and_both_orientations_occur(
    root: Path,
) -> None:
    landscape = set()
    for path in root.rglob("*.jpg"):
        with Image.open(path) as picture:
            picture.load()
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert 120 <= max(picture.size) <= 160
            assert min(picture.size) >= 72
            landscape.add(picture.width > picture.height)
    assert landscape == {True, False}


def test_no_two_drawings_are_the_same(root: Path) -> None:
    digests = [hashlib.sha256(data).hexdigest() for data in _files(root).values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", sorted(ANIMALS))
def test_pictures_of_an_animal_vary_in_light_and_show_more_than_one_flat_colour(name: str) -> None:
    pictures = [np.asarray(draw_picture(name, np.random.default_rng(seed)).picture) for seed in range(6)]
    assert np.ptp([picture.mean() for picture in pictures]) > 10
    assert all(picture.std() > 15 for picture in pictures)


def test_a_fox_is_orange_and_an_elephant_is_grey() -> None:
    def saturation(name: str) -> float:
        drawn = [draw_picture(name, np.random.default_rng(seed)).picture for seed in range(12)]
        return float(np.mean([np.asarray(picture.convert("HSV"))[..., 1].mean() for picture in drawn]))

    assert saturation("fox") > saturation("elephant")


def test_a_table_beside_the_drawings_has_the_boxes_of_their_heads(root: Path) -> None:
    def orange(pixels: np.ndarray) -> float:
        hue, saturation = np.asarray(Image.fromarray(pixels).convert("HSV"))[..., :2].transpose(2, 0, 1)
        return float(((hue < 24) & (saturation > 140)).mean())

    for folder in (root / name for name in ANIMALS):
        assert read_boxes(folder / BOXES).keys() == {file.name for file in folder.glob("*.jpg")}
    boxes = read_boxes(root / "fox" / BOXES)
    foxes = [np.asarray(Image.open(root / "fox" / name)) for name in boxes]
    heads = [orange(cut(fox, box, 64)) for fox, box in zip(foxes, boxes.values(), strict=True)]
    assert min(heads) > 0.2
    assert np.mean(heads) > 1.3 * np.mean([orange(cut(fox, middle(*fox.shape[:2]), 64)) for fox in foxes])


def test_a_complete_folder_is_left_as_it_is(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    (root / "fox" / "mine.txt").write_text("a note of the owner's")
    assert draw_samples(root, per_class=8, others=3) == 45
    (root / "fox" / "mine.txt").unlink()
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


@pytest.mark.parametrize("content", ["holiday.jpg", "tiger/tiger_000.jpg"])
def test_a_folder_of_somebody_elses_is_refused_and_named(tmp_path: Path, content: str) -> None:
    (tmp_path / content).parent.mkdir(exist_ok=True)
    (tmp_path / content).write_bytes(b"precious")
    with pytest.raises(DataError, match=tmp_path.name):
        draw_samples(tmp_path, per_class=2, others=1)
    assert _files(tmp_path) == {content: b"precious"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("a file")
    with pytest.raises(DataError):
        draw_samples(tmp_path / "sample", per_class=1, others=0)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="sample"):
        draw_samples(tmp_path / "file" / "sample", per_class=1, others=0)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_samples(tmp_path / "sample", per_class=2, others=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_samples(tmp_path / "sample", per_class=1, others=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_drawings_are_known_as_such_and_photos_are_not(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "fox.jpg"
    copy.parent.mkdir()
    copy.write_bytes(next(root.glob("fox/*.jpg")).read_bytes())
    Image.new("RGB", (90, 60), "red").save(copy.with_name("photo.jpg"))
    assert scan(copy.parent, tmp_path / "cache").set_index("path").drawn.to_dict() == {
        "fox.jpg": True,
        "photo.jpg": False,
    }
