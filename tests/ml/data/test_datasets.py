import shutil
from pathlib import Path

import numpy as np
import pytest

from ml.animals import Animal
from ml.data import datasets, manifest, photos, scanning
from ml.data.datasets import Dataset
from ml.errors import DataError

FOX = Animal(name="fox", positives=["fox/*"], negatives=["*/*"], holdout=["*/test_*"])


@pytest.fixture
def root(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "photos", {"fox": 4, "cat": 4})


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> Dataset:
    (root / "fox" / "003.jpg").rename(root / "fox" / "test_3.jpg")
    made = manifest.accept(
        manifest.draft(scanning.scan(root, tmp_path / "cache"), FOX), {"cat/000.jpg": "it is dull"}, None, 2
    )
    manifest.publish(tmp_path / "fox", manifest.write(made, root, tmp_path / "fox"))
    return datasets.load("fox", tmp_path / "fox", tmp_path / "cache")


def test_the_accepted_version_is_loaded_without_what_was_left_out(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.digest == manifest.accepted(tmp_path / "fox")
    assert sorted(dataset.rows.path) == [f"cat/00{n}.jpg" for n in (1, 2, 3)] + [
        *(f"fox/00{n}.jpg" for n in (0, 1, 2)),
        "fox/test_3.jpg",
    ]
    assert dataset.rows.sha256.is_monotonic_increasing
    assert "fox/test_3.jpg" not in set(dataset.training.path)
    assert len(dataset.training) == 6
    assert set(dataset.training.fold) == {0, 1}


def test_an_older_version_is_loaded_by_its_digest_and_none_is_a_data_error(dataset: Dataset, tmp_path: Path) -> None:
    assert datasets.load("fox", tmp_path / "fox", tmp_path / "cache", dataset.digest).rows.equals(dataset.rows)
    with pytest.raises(DataError, match=r"No accepted photos for lynx yet\. Run validate_images first."):
        datasets.load("lynx", tmp_path / "lynx", tmp_path / "cache")
    with pytest.raises(DataError, match="No manifest '0000000000000000'"):
        datasets.load("fox", tmp_path / "fox", tmp_path / "cache", "0" * 16)


def test_pixels_are_those_of_the_file_and_come_back_when_the_cache_is_deleted(
    dataset: Dataset, root: Path, tmp_path: Path
) -> None:
    index = dataset.rows.path.tolist().index("fox/001.jpg")
    expected = photos.inspect((root / "fox" / "001.jpg").read_bytes())[1]
    np.testing.assert_array_equal(dataset.pixels(index), expected)
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(dataset.pixels(index), expected)
    (root / "fox" / "001.jpg").unlink()
    np.testing.assert_array_equal(dataset.pixels(index), expected, "kept again")


def test_images_have_one_size_and_the_order_asked_for(dataset: Dataset) -> None:
    images = dataset.images([3, 0, 3], 20, 30)
    assert (images.shape, images.dtype) == ((3, 20, 30, 3), np.uint8)
    np.testing.assert_array_equal(images[0], photos.resize(dataset.pixels(3), 20, 30))
    np.testing.assert_array_equal(images[0], images[2])
    assert dataset.images([], 20, 30).shape == (0, 20, 30, 3)


@pytest.mark.parametrize("change", ["other photo", "cut short", "gone", "a folder"])
def test_a_photo_that_is_not_what_was_validated_is_named(
    change: str, dataset: Dataset, root: Path, tmp_path: Path, picture
) -> None:
    file = root / "fox" / "001.jpg"
    says = "other content"
    shutil.rmtree(tmp_path / "cache")
    if change == "other photo":
        picture(999).save(file)
    elif change == "cut short":
        file.write_bytes(file.read_bytes()[:900])
        says = "it is a JPEG that is cut short"
    else:
        file.unlink()
        says = "nothing there"
        if change == "a folder":
            file.mkdir()
    row = dataset.rows.set_index("path").loc["fox/001.jpg"]
    with pytest.raises(DataError) as caught:
        dataset.images(range(len(dataset.rows)), 8, 8)
    assert f"Photo 'fox/001.jpg' is not what was validated: expected SHA-256 {row.sha256[:16]}… at {file}." in str(
        caught.value
    )
    assert f"Received: {says}" in str(caught.value)
    assert "Run validate_images again." in str(caught.value)
