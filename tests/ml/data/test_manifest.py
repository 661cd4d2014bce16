import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.animals import Animal
from ml.data import manifest, scanning
from ml.errors import DataError

FOX = Animal(name="fox", positives=["fox/*"], negatives=["Fox_negative_class/*", "*/*"], holdout=["*/test_*"])


def _accept(
    scanned: pd.DataFrame, previous: pd.DataFrame | None = None, n_folds: int = 2, animal: Animal = FOX
) -> pd.DataFrame:
    """Accept all that can be read, each photo once."""
    table = manifest.draft(scanned, animal)
    bad = table[table.problem.notna() | (table.first_path != table.path)]
    return manifest.accept(table, dict.fromkeys(bad.path, "refused"), previous, n_folds)


def _digest(root: Path, previous: pd.DataFrame | None = None) -> str:
    return manifest.digest(_accept(scanning.scan(root, root.parent / "cache"), previous))


@pytest.fixture
def root(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "photos", {"fox": 4, "cat": 3, "wolf": 3})


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, fill) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("scanned")
    return scanning.scan(fill(folder / "photos", {"fox": 6, "cat": 4, "wolf": 4}), folder / "cache")


class TestDraft:
    def test_one_folder_a_class(self, scanned: pd.DataFrame) -> None:
        table = manifest.draft(scanned, FOX)
        assert table.groupby("class").label.agg(["size", "max"]).T.to_dict("list") == {
            "cat": [4, 0],
            "fox": [6, 1],
            "wolf": [4, 0],
        }

    def test_the_course_layout_takes_the_negatives_made_for_the_animal(self, scanned: pd.DataFrame) -> None:
        renamed = scanned.assign(
            path=scanned.path.str.replace("cat/", "Fox_negative_class/").str.replace("wolf/", "tiger/")
        )
        table = manifest.draft(renamed, FOX)
        assert sorted(set(table["class"])) == ["Fox_negative_class", "fox"]
        tiger = Animal(name="tiger", positives=["tiger/*"], negatives=["Tiger_negative_class/*", "*/*"])
        assert sorted(set(manifest.draft(renamed, tiger)["class"])) == ["Fox_negative_class", "fox", "tiger"]

    def test_negatives_in_a_folder_of_the_animals_name_are_not_its_class(self, scanned: pd.DataFrame) -> None:
        nested = Animal(name="fox", positives=["fox/00[0-2]*"], negatives=["fox/*"])
        assert set(manifest.draft(scanned, nested)["class"]) == {"fox", "not fox"}

    @pytest.mark.parametrize(
        ("animal", "says"),
        [
            (
                Animal(name="lynx", positives=["lynx/*", "Lynx/*"], negatives=["*/*"]),
                "lynx has no positives: expected photos that match lynx/* or Lynx/* among 14 photos.",
            ),
            (
                Animal(name="fox", positives=["fox/*"], negatives=["Fox_negative_class/*"]),
                "fox has no negatives: expected photos that match Fox_negative_class/* among 14 photos.",
            ),
            (Animal(name="all", positives=["*"], negatives=["*"]), "all has no negatives"),
        ],
    )
    def test_an_animal_without_photos_of_a_kind_is_told_what_there_is(
        self, animal: Animal, says: str, scanned: pd.DataFrame
    ) -> None:
        with pytest.raises(DataError) as caught:
            manifest.draft(scanned, animal)
        assert says in str(caught.value)
        assert "Received folders: cat, fox, wolf. Add the folder, or mend" in str(caught.value)

    def test_the_hold_out_holds_out_copies_that_lie_elsewhere_too(self, root: Path, tmp_path: Path) -> None:
        shutil.copy(root / "fox" / "000.jpg", root / "fox" / "test_000.jpg")
        (root / "cat" / "000.jpg").rename(root / "cat" / "test_0.jpg")
        rows = manifest.used_rows(_accept(scanning.scan(root, tmp_path / "cache"))).set_index("path")
        assert rows[rows.fold == -1].index.tolist() in (
            ["fox/000.jpg", "cat/test_0.jpg"],
            ["cat/test_0.jpg", "fox/000.jpg"],
        )

    def test_a_photo_in_both_kinds_is_contradicted_and_two_files_that_are_no_photos_are_not(
        self, root: Path, tmp_path: Path
    ) -> None:
        shutil.copy(root / "fox" / "000.jpg", root / "wolf" / "stray.jpg")
        for name in ("fox/failed.jpg", "cat/failed.jpg"):
            (root / name).write_bytes(b"<html>404")
            (root / name.replace("failed", "empty")).touch()
        table = manifest.draft(scanning.scan(root, tmp_path / "cache"), FOX)
        assert table[table.contradicted].path.tolist() == ["fox/000.jpg", "wolf/stray.jpg"]

    def test_a_photo_of_two_animals_is_no_contradiction_and_no_negative_of_either(
        self, root: Path, tmp_path: Path
    ) -> None:
        shutil.copy(root / "fox" / "000.jpg", root / "cat" / "both.jpg")
        scanned = scanning.scan(root, tmp_path / "cache")
        cat = Animal(name="cat", positives=["cat/*"], negatives=["*/*"])
        for animal, other, mine, theirs in (
            (FOX, cat, "fox/000.jpg", "cat/both.jpg"),
            (cat, FOX, "cat/both.jpg", "fox/000.jpg"),
        ):
            table = manifest.draft(scanned, animal, [other])
            assert not table.contradicted.any()
            made = _accept(scanned, animal=animal).set_index("path")
            assert (made.reason[mine], made.reason[theirs]) == ("", "refused")

    def test_copies_among_other_animals_are_contradicted_in_spite_of_that(self, root: Path, tmp_path: Path) -> None:
        for copy in ("cat/both.jpg", "wolf/stray.jpg"):
            shutil.copy(root / "fox" / "000.jpg", root / copy)
        cat = Animal(name="cat", positives=["cat/*"], negatives=["*/*"])
        table = manifest.draft(scanning.scan(root, tmp_path / "cache"), FOX, [cat])
        assert table[table.contradicted].path.tolist() == ["cat/both.jpg", "fox/000.jpg", "wolf/stray.jpg"]


class TestAccept:
    def test_who_is_left_out_has_a_reason_and_neither_group_nor_fold(self, scanned: pd.DataFrame) -> None:
        made = manifest.accept(manifest.draft(scanned, FOX), {"fox/001.jpg": "it is blank"}, None, 2).set_index("path")
        assert (made.reason["fox/001.jpg"], made.group["fox/001.jpg"]) == ("it is blank", "")
        assert made.fold.isna().sum() == 1
        others = made.drop("fox/001.jpg")
        assert (others.reason == "").all()
        assert set(others.fold) == {0, 1}
        assert others.group.str.fullmatch("[0-9a-f]{16}").all()

    def test_folds_are_kept_for_as_long_as_their_number_stays(self, root: Path, tmp_path: Path, picture) -> None:
        first = _accept(scanning.scan(root, tmp_path / "cache"))
        for seed in range(6):
            picture(900 + seed).save(root / ("fox" if seed % 2 else "cat") / f"a_new_{seed}.jpg")
        (root / "wolf" / "000.jpg").unlink()
        (root / "wolf" / "001.jpg").rename(root / "wolf" / "other name.jpg")
        grown = _accept(scanning.scan(root, tmp_path / "cache"), first)
        old, new = (table.set_index("sha256").fold for table in (first, grown))
        both = old.index.intersection(new.index)
        assert len(both) == 9
        assert (old[both] == new[both]).all()
        assert set(_accept(scanning.scan(root, tmp_path / "cache"), grown, n_folds=3).fold) == {0, 1, 2}

    def test_the_same_photos_give_the_same_version_again(self, scanned: pd.DataFrame) -> None:
        first = _accept(scanned)
        assert manifest.digest(_accept(scanned, previous=first)) == manifest.digest(first)

    @pytest.mark.parametrize(("lacking", "kind"), [("fox", "positives"), ("cat", "negatives")])
    def test_fewer_photos_than_folds_are_told_with_their_number(
        self, lacking: str, kind: str, tmp_path: Path, fill
    ) -> None:
        root = fill(tmp_path / "photos", {"fox": 5, "cat": 5} | {lacking: 4})
        with pytest.raises(DataError) as caught:
            _accept(scanning.scan(root, tmp_path / "cache"), n_folds=5)
        assert str(caught.value) == (
            f"Expected at least 5 unlike {kind}, one a fold. Received: 4 accepted photos in 4 groups (near-duplicates, "
            "bursts and what `group` ties stand in one fold). Add photos of other scenes, or lower the param `folds`."
        )

    def test_if_no_photo_is_good_that_is_what_is_said(self, tmp_path: Path) -> None:
        for name in ("fox", "cat"):
            (tmp_path / "photos" / name).mkdir(parents=True)
            (tmp_path / "photos" / name / "1.jpg").write_bytes(name.encode())
        with pytest.raises(DataError, match="Received: 0 accepted photos in 0 groups"):
            _accept(scanning.scan(tmp_path / "photos", tmp_path / "cache"))


class TestDigest:
    def test_names_and_copies_change_nothing_content_and_class_do(self, root: Path, picture) -> None:
        first = _digest(root)
        (root / "fox" / "000.jpg").rename(root / "fox" / "zzz.jpeg")
        (root / "fox" / "sub").mkdir()
        (root / "cat" / "000.jpg").rename(root / "cat" / "0 again.jpg")
        assert _digest(root) == first
        shutil.copy(root / "fox" / "001.jpg", root / "fox" / "sub" / "copy.jpg")
        shutil.copy(root / "wolf" / "001.jpg", root / "wolf" / "000 before.jpg")
        assert _digest(root) == first
        shutil.move(root, root.parent / "moved")
        assert _digest(root.parent / "moved") == first
        shutil.move(root.parent / "moved", root)
        original = (root / "wolf" / "002.jpg").read_bytes()
        picture(12345).save(root / "wolf" / "002.jpg")
        assert _digest(root) != first
        (root / "wolf" / "002.jpg").write_bytes(original)
        assert _digest(root) == first
        (root / "wolf" / "002.jpg").rename(root / "cat" / "002b.jpg")
        assert _digest(root) != first, "the class of a negative counts"

    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def test_neither_names_nor_order_matter(self, scanned: pd.DataFrame, data: st.DataObject) -> None:
        renamed = scanned.assign(
            path=[
                f"{path.split('/')[0]}/{name}.jpg"
                for path, name in zip(scanned.path, data.draw(st.permutations(range(len(scanned)))), strict=True)
            ]
        )
        assert manifest.digest(_accept(renamed.sort_values("path"))) == manifest.digest(_accept(scanned))


class TestVersions:
    def test_what_is_written_published_and_loaded_is_the_same(self, scanned: pd.DataFrame, tmp_path: Path) -> None:
        made, folder = _accept(scanned), tmp_path / "datasets" / "fox"
        assert manifest.accepted(folder) is None
        name = manifest.write(made, tmp_path / "photos", folder)
        assert manifest.accepted(folder) is None, "written is not accepted yet"
        manifest.publish(folder, name, "run1")
        assert manifest.accepted(folder) == name
        loaded = manifest.load(folder, name)
        assert manifest.digest(loaded) == name == manifest.digest(made)
        assert set(loaded.root) == {str(tmp_path / "photos")}
        pd.testing.assert_frame_equal(loaded.drop(columns="root"), made, check_dtype=False)
        assert manifest.digest(_accept(scanned, previous=loaded)) == name

    @pytest.mark.parametrize("name", ["0" * 16, "../../etc/passwd", "", "accepted", "0" * 16 + "\n"])
    def test_a_version_that_does_not_exist_is_named_with_what_to_do(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="Run validate_images for fox first"):
            manifest.load(tmp_path / "fox", name)
        with pytest.raises(DataError, match="Run validate_images first"):
            manifest.publish(tmp_path / "fox", name)
        assert not (tmp_path / "fox").exists()
