import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from ml.animals import Animal
from ml.data import manifest, scanning, scenes

FOX = Animal(name="fox", positives=["fox/*"], negatives=["*/*"])


def _shots(*shots: tuple[str, float | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(shots, columns=["path", "taken", "camera"]).astype({"taken": float})


def _same(names: list[str]) -> list[list[int]]:
    """Return the places of the photos that share a name."""
    groups = pd.Series(range(len(names))).groupby(names).agg(list)
    return sorted(places for name, places in groups.items() if name)


class TestBursts:
    def test_pauses_of_ten_seconds_chain_and_longer_ones_divide(self) -> None:
        shots = _shots(*((f"fox/{n}.jpg", taken, "A") for n, taken in enumerate([100, 110, 119.9, 130.1, 300])))
        assert _same(scenes.bursts(shots)) == [[0, 1, 2], [3], [4]]

    def test_cameras_with_a_serial_number_are_known_by_it_in_any_folder(self) -> None:
        shots = _shots(("fox/1.jpg", 100, "A #1"), ("empty/2.jpg", 101, "A #1"), ("fox/3.jpg", 102, "A #2"))
        assert _same(scenes.bursts(shots)) == [[0, 1], [2]]

    def test_others_by_their_model_within_a_folder(self) -> None:
        shots = _shots(
            ("fox/1.jpg", 100, "A"), ("wolf/2.jpg", 100, "A"), ("fox/3.jpg", 101, "B"), ("fox/4.jpg", 102, "A")
        )
        assert _same(scenes.bursts(shots)) == [[0, 3], [1], [2]]

    def test_photos_without_a_time_are_in_no_burst(self) -> None:
        assert scenes.bursts(_shots(("fox/1.jpg", None, "A #1"), ("fox/2.jpg", None, None))) == ["", ""]
        assert scenes.bursts(_shots()) == []

    def test_the_order_of_the_rows_changes_nothing(self) -> None:
        shots = _shots(*((f"fox/{n}.jpg", n * 7 % 40, f"A #{n % 3}") for n in range(30)))
        order = np.random.default_rng(0).permutation(30)
        names = scenes.bursts(shots.iloc[order].reset_index(drop=True))
        assert [scenes.bursts(shots)[place] for place in order] == names


def _manifest(paths: list[str], **columns: object) -> pd.DataFrame:
    count = len(paths)
    table = pd.DataFrame({"path": paths, "reason": "", "near": "", "burst": "", "scene": "", "camera": None})
    table = table.assign(taken=np.nan, group=[f"{n:016x}" for n in range(count)], label=[n % 2 for n in range(count)])
    return table.assign(**columns)


class TestWarnings:
    def test_ordinary_photos_give_none(self) -> None:
        paths = [f"{folder}/{n:06d}.jpg" for folder in ("fox", "wolf") for n in range(109000, 109060)]
        assert scenes.warnings(_manifest(paths), FOX, 5) == []
        named = [f"fox/fox_{n}.jpg" for n in range(60)] + [f"wolf/wolf ({n}).jpg" for n in range(60)]
        assert scenes.warnings(_manifest(named), FOX, 5) == []

    def test_a_group_above_five_percent_and_twenty_photos_is_told_with_what_ties_it(self) -> None:
        paths = [f"fox/{n}.jpg" for n in range(100)]
        near = ["n"] * 22 + [""] * 78
        group = ["g"] * 22 + [f"{n}" for n in range(78)]
        (warning,) = scenes.warnings(_manifest(paths, near=near, group=group), FOX, 5)
        assert warning.startswith(
            "22 of 100 photos (22%) hang together and stand in one fold (22 near-duplicates), such"
        )
        smaller = _manifest(paths, near=[*near[2:], "", ""], group=["g"] * 20 + group[22:] + ["x", "y"])
        assert scenes.warnings(smaller, FOX, 5) == []

    def test_sites_may_be_large_but_no_larger_than_a_fold(self) -> None:
        paths = [f"fox/{n}.jpg" for n in range(100)]
        sites = [f"site {n // 20}" for n in range(100)]
        animal = FOX.model_copy(update={"group": "{n}/*"})
        assert scenes.warnings(_manifest(paths, scene=sites, group=sites), animal, 5) == []
        (warning,) = scenes.warnings(
            _manifest(paths, scene=["a"] * 40 + sites[40:], group=["a"] * 40 + sites[40:]), animal, 5
        )
        assert "40 of 100 photos (40%)" in warning
        assert "40 of one `group`" in warning

    def test_photos_that_the_group_doesnt_match_are_counted_and_named(self) -> None:
        animal = FOX.model_copy(update={"group": "*/{site}/*"})
        table = _manifest(["fox/a/1.jpg", "fox/2.jpg", "fox/3.jpg"], scene=["site a", "", ""])
        (warning,) = scenes.warnings(table, animal, 5)
        assert warning.startswith("2 of 3 photos don't match the `group` '*/{site}/*'")
        assert "'fox/2.jpg', 'fox/3.jpg'" in warning

    @pytest.mark.parametrize(
        "name", ["scene{scene:03d}_{frame}", "IMG_{scene:04d} ({frame})", "cam2-{scene}-frame{frame:02d}"]
    )
    def test_names_like_those_of_frames_are_told(self, name: str) -> None:
        paths = [f"fox/{name.format(scene=scene, frame=frame)}.jpg" for scene in range(12) for frame in range(1, 5)]
        (warning,) = scenes.warnings(_manifest(paths), FOX, 5)
        assert warning.startswith("48 of 48 photos are named like frames of bursts, such as 'fox/")
        assert "`group`" in warning
        tied = _manifest(paths, group=[f"{n // 4}" for n in range(48)])
        assert scenes.warnings(tied, FOX, 5) == []

    def test_names_that_are_times_close_together_are_told(self) -> None:
        paths = [f"fox/IMG_20240512_{6 + n // 4:02d}310{n % 4}.jpg" for n in range(48)]
        assert any(
            "have names that are times less than 60 s apart" in text
            for text in scenes.warnings(_manifest(paths), FOX, 5)
        )

    def test_times_of_one_camera_that_are_too_far_apart_for_a_burst_but_close_are_told(self) -> None:
        paths = [f"fox/{letter}.jpg" for letter in "abcdefghijklmnopqrst"]
        table = _manifest(paths, camera="A", taken=[n // 2 * 5000.0 + n % 2 * 45 for n in range(20)])
        (warning,) = scenes.warnings(table, FOX, 5)
        assert warning.startswith(
            "20 of 20 photos were taken by one camera less than 60 s apart, such as 'fox/a.jpg', 'fox/b.jpg'"
        )


def test_the_same_picture_under_both_labels_is_named_and_the_next_frame_is_not(tmp_path, fill, picture) -> None:
    root = fill(tmp_path / "photos", {"fox": 6, "wolf": 6})
    for number in range(2):
        with Image.open(root / "fox" / f"{number:03d}.jpg") as photo:
            photo.resize((80, 54)).save(root / "wolf" / f"again{number}.jpg", quality=70)
    scene = picture(77, 300, 200)
    scene.save(root / "wolf" / "frame.jpg")
    ImageDraw.Draw(scene).ellipse((140, 100, 190, 130), fill=(150, 90, 40))
    scene.save(root / "fox" / "frame.jpg")
    made = manifest.accept(manifest.draft(scanning.scan(root, tmp_path / "cache"), FOX), {}, None, 3)
    pairs = scenes.contradictions(made)
    assert sorted(zip(pairs.path, pairs.other_path, strict=True)) == [
        ("fox/000.jpg", "wolf/again0.jpg"),
        ("fox/001.jpg", "wolf/again1.jpg"),
    ]
    groups = made.set_index("path").group
    assert groups["fox/frame.jpg"] == groups["wolf/frame.jpg"]
