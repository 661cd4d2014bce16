import unicodedata

import pandas as pd
import pytest

from ml.animals import Animal
from ml.data import manifest, naming
from ml.errors import DataError

TIGER = Animal(name="tiger", positives=["tiger/*"], negatives=["*/*"])


def scanned(*folders: str) -> pd.DataFrame:
    paths = [f"{folder}/{number}.jpg" for folder in folders for number in range(3)]
    unread = {"problem": None, "taken": float("nan"), "camera": None}
    return pd.DataFrame({"path": paths, "sha256": [f"{n:064x}" for n in range(len(paths))], **unread})


@pytest.mark.parametrize("folder", ["Tiger", "tiger ", " TIGER", "tiger\u00a0", "\uff54iger"])
def test_a_folder_that_looks_like_the_animals_is_never_its_negative(folder: str) -> None:
    with pytest.raises(DataError, match=r"but for capitals or blanks.*\(3 photos\).*tiger/\*.*add them to `positives`"):
        manifest.draft(scanned("tiger", folder, "horse"), TIGER)


def test_accents_count_however_they_are_encoded() -> None:
    lion = Animal(name="lion", positives=["löwe/*"], negatives=["*/*"])
    table = manifest.draft(scanned(unicodedata.normalize("NFD", "löwe"), "horse"), lion)
    assert table.groupby("class").label.max().to_dict() == {"lion": 1, "horse": 0}


def test_folders_that_read_like_the_animal_are_warned_of_and_others_are_not() -> None:
    folders = [
        "TIGER 2024",
        "tigers",
        "tiger_new",
        "Tiger (1)",
        "tiger shark",
        "Tiger_negative_class",
        "no tiger",
        "ox",
    ]
    warnings = naming.doubtful(TIGER, [f"{folder}/1.jpg" for folder in folders])
    assert [warning.split("'")[1] for warning in warnings] == ["TIGER 2024", "Tiger (1)", "tiger_new", "tigers"]


@pytest.mark.parametrize(
    ("folder", "globs"),
    [("Tiger", ["tiger/*"]), ("tigre", ["tiger/*"]), ("tigers", ["tiger/*"]), ("big cats/Tiger", ["tiger/*"])],
)
def test_a_glob_that_finds_nothing_says_what_it_was_near(folder: str, globs: list[str]) -> None:
    animal = Animal(name="tiger", positives=globs, negatives=["*/*"])
    with pytest.raises(DataError, match=rf"tiger has no positives.* Near to that: .*{folder.rpartition('/')[2]}'"):
        manifest.draft(scanned(folder, "horse"), animal)


def test_brackets_in_a_glob_may_be_those_of_a_folder() -> None:
    animal = Animal(name="tiger", positives=["tiger [2024]/*"], negatives=["*/*"])
    assert manifest.draft(scanned("tiger [2024]", "horse"), animal).label.sum() == 3
    assert Animal(name="tiger", positives=["tiger[12]/*"], negatives=["*"]).is_positive("tiger1/1.jpg")


def test_folders_that_divide_a_dataset_give_the_classes_below_them() -> None:
    table = manifest.draft(
        scanned("train/tiger", "train/horse", "val/tiger", "Test/wolf", "images/test/horse", "train"), TIGER
    )
    assert table.groupby("class").label.agg(["size", "max"]).T.to_dict("list") == {
        "tiger": [6, 1], "horse": [6, 0], "wolf": [3, 0], "train": [3, 0],
    }  # fmt: skip
    (warning,) = naming.divided(TIGER, table.path.tolist())
    assert "the folders Test, images, train, val are read as one" in warning
    held_out = TIGER.model_copy(update={"holdout": ("Test/*",)})
    assert naming.divided(held_out, table.path.tolist()) == []
    assert manifest.draft(scanned("train/tiger", "Test/horse"), held_out).holdout.sum() == 3
    assert naming.divided(TIGER, ["tiger/1.jpg", "test/1.jpg"]) == []
