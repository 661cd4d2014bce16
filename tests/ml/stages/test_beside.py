"""Which photos two models can be compared on, from their out-of-fold tables."""

import pandas as pd
import pytest

from ml.stages.answers import UNSEEN
from ml.stages.beside import beside, compared


def table(**rows: tuple[int, str]) -> pd.DataFrame:
    """Photos by name: their fold and their group. Names with an f are foxes; all answers are right."""
    return pd.DataFrame(
        [
            {
                "sha256": name,
                "label": int(name.startswith("f")),
                "class": "fox" if name.startswith("f") else "dog",
                "fold": fold,
                "group": group,
                "probability": float(name.startswith("f")),
            }
            for name, (fold, group) in rows.items()
        ]
    )


THEN = {"f1": (0, "a"), "f2": (1, "b"), "d1": (0, "c"), "d2": (1, "d")}


def names(now: pd.DataFrame, then: pd.DataFrame) -> list[str]:
    return beside(now, then).photos.sha256.tolist()


def test_the_number_of_folds_may_change() -> None:
    now = table(f1=(3, "a"), f2=(5, "b"), d1=(7, "c"), d2=(9, "d"))
    assert names(now, table(**THEN)) == ["f1", "f2", "d1", "d2"]


def test_photos_whose_group_lay_in_several_folds_are_left_out() -> None:
    """Two groups have become one: the champion's model of either fold was trained with the other."""
    now = table(f1=(0, "a"), f2=(0, "a"), d1=(0, "c"), d2=(1, "d"))
    found = beside(now, table(**THEN))
    assert found.photos.sha256.tolist() == ["d1", "d2"]
    assert found.left_out == 2


def test_a_group_that_was_one_then_must_be_in_one_fold_now() -> None:
    """Else the challenger was trained with what the champion could not see."""
    then = table(f1=(0, "a"), f2=(0, "a"), d1=(0, "c"), d2=(1, "d"))
    assert names(table(**THEN), then) == ["d1", "d2"]
    together = table(f1=(2, "x"), f2=(2, "y"), d1=(0, "c"), d2=(1, "d"))
    found = beside(together, then).photos
    assert found.group[0] == found.group[1], "they still stand or fall together"


def test_a_new_photo_like_one_that_the_champion_knew_does_not_meet_it() -> None:
    now = table(**THEN, f3=(0, "a"), f4=(4, "e"), d3=(4, "g"))
    found = beside(now, table(**THEN))
    assert found.photos.sha256.tolist() == ["f1", "f2", "d1", "d2", "f4", "d3"]
    assert found.photos.champion.isna().tolist() == [False] * 4 + [True] * 2
    assert found.left_out == 1


def test_new_photos_that_are_alike_are_one_group() -> None:
    now = table(**THEN, f3=(2, "e"), f4=(2, "e"))
    found = beside(now, table(**THEN)).photos.set_index("sha256").group
    assert found["f3"] == found["f4"] != found["f1"]


def test_unseen_classes_count_where_both_have_them_measured() -> None:
    now = table(**THEN).assign(**{UNSEEN: [float("nan"), float("nan"), 0.9, 0.1]})
    assert compared(beside(now, table(**THEN)).photos).difference == 0
    both = compared(beside(now, table(**THEN).assign(**{UNSEEN: [float("nan"), float("nan"), 0.1, 0.1]})).photos)
    assert both.difference == pytest.approx(-1 / 8)
    assert len(both.flips_lost) == 0, "flips are of the answers out of fold"
