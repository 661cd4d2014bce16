from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ml.data.splits import HOLDOUT, assign_folds, joined_groups

Photo = tuple[str, str, int | None, bool]
"""Group, class, known fold, held out."""

N_FOLDS = st.integers(2, 6)
PHOTOS = st.lists(
    st.tuples(
        st.sampled_from([f"group{n:02d}" for n in range(25)]),
        st.sampled_from(["fox", "cat", "wolf"]),
        st.none() | st.integers(-1, 6),
        st.booleans() | st.just(False),
    ),
    max_size=60,
)


def _folds(photos: list[Photo], n_folds: int) -> list[int]:
    groups, classes, known, held_out = ([photo[column] for photo in photos] for column in range(4))
    return assign_folds(groups, classes, known, held_out, n_folds)


@given(PHOTOS, N_FOLDS)
def test_a_group_is_never_cut_and_every_photo_has_a_fold(photos: list[Photo], n_folds: int) -> None:
    folds = _folds(photos, n_folds)
    assert len(folds) == len(photos)
    assert set(folds) <= {HOLDOUT, *range(n_folds)}
    assert len({(photo[0], fold) for photo, fold in zip(photos, folds, strict=True)}) == len({p[0] for p in photos})


@given(PHOTOS, N_FOLDS)
def test_the_hold_out_takes_every_group_that_it_touches_and_no_other(photos: list[Photo], n_folds: int) -> None:
    touched = {group for group, _, _, held_out in photos if held_out}
    folds = _folds(photos, n_folds)
    assert [fold == HOLDOUT for fold in folds] == [group in touched for group, *_ in photos]


@given(PHOTOS, N_FOLDS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(photos: list[Photo], n_folds: int, random: object) -> None:
    order = list(range(len(photos)))
    random.shuffle(order)  # type: ignore[attr-defined]
    folds = _folds(photos, n_folds)
    assert _folds([photos[index] for index in order], n_folds) == [folds[index] for index in order]


@given(PHOTOS, PHOTOS, N_FOLDS)
def test_new_photos_move_no_known_one(first: list[Photo], more: list[Photo], n_folds: int) -> None:
    first = [(group, kind, None, False) for group, kind, _, _ in first]
    folds = _folds(first, n_folds)
    known = [(group, kind, fold, False) for (group, kind, _, _), fold in zip(first, folds, strict=True)]
    added = [(group, kind, None, False) for group, kind, _, _ in more]
    assert _folds(known + added, n_folds)[: len(known)] == folds


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 5))
def test_of_two_groups_that_a_new_photo_ties_the_smaller_moves(left: int, right: int, n_folds: int) -> None:
    photos = [("tied", "fox", 0, False)] * left + [("tied", "fox", 1, False)] * right + [("tied", "fox", None, False)]
    assert set(_folds(photos, n_folds)) == {0 if left >= right else 1}


@given(st.dictionaries(st.integers(0, 99), st.tuples(st.sampled_from("abc"), st.integers(1, 7)), max_size=40), N_FOLDS)
def test_classes_spread_as_evenly_as_the_largest_group_allows(groups: dict[int, tuple[str, int]], n_folds: int) -> None:
    photos = [(f"g{name:02d}", kind, None, False) for name, (kind, size) in groups.items() for _ in range(size)]
    folds = _folds(photos, n_folds)
    for kind in "abc":
        counts = Counter(fold for photo, fold in zip(photos, folds, strict=True) if photo[1] == kind)
        per_fold = [counts[fold] for fold in range(n_folds)]
        largest = max((size for other, size in groups.values() if other == kind), default=0)
        assert max(per_fold) - min(per_fold) <= largest


@given(st.integers(0, 40), st.integers(0, 40), N_FOLDS)
def test_rare_classes_do_not_all_land_in_the_first_fold(foxes: int, cats: int, n_folds: int) -> None:
    photos = [(f"{kind}{n:02d}", kind, None, False) for kind, n in [("fox", foxes), ("cat", cats)] for n in range(n)]
    counts = Counter(_folds(photos, n_folds))
    per_fold = [counts[fold] for fold in range(n_folds)]
    assert max(per_fold) - min(per_fold) <= 1


def _names(count: int) -> list[str]:
    """Return digests whose order is unlike that of the photos."""
    return [f"{index * 7919 % 1000:03d}" * 22 for index in range(count)]


def test_photos_are_tied_by_whatever_they_have_in_common_and_chains_count() -> None:
    near = ["x", "x", "y", "z", "w"]
    burst = ["", "b", "b", "", ""]
    scene = ["", "", "", "", ""]
    groups = joined_groups(["d" * 64, "b" * 64, "c" * 64, "a" * 64, "e" * 64], near, burst, scene)
    assert groups == ["b" * 16, "b" * 16, "b" * 16, "a" * 16, "e" * 16]


def test_the_same_word_in_two_ties_ties_nothing() -> None:
    assert len(set(joined_groups(_names(2), ["x", ""], ["", "x"]))) == 2


@given(st.lists(st.tuples(*[st.sampled_from(["", "a", "b", "c"])] * 2), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_photos_changes_no_group(ties: list[tuple[str, str]], random: object) -> None:
    names = _names(len(ties))
    order = list(range(len(ties)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups = joined_groups(names, [tie[0] for tie in ties], [tie[1] for tie in ties])
    again = joined_groups([names[i] for i in order], [ties[i][0] for i in order], [ties[i][1] for i in order])
    assert again == [groups[i] for i in order]


def test_no_photos_have_no_groups_and_no_folds() -> None:
    assert joined_groups([], [], []) == []
    assert assign_folds([], [], [], [], 5) == []


def test_known_folds_beyond_their_number_are_forgotten() -> None:
    folds = _folds([(f"g{n}", "fox", 6, False) for n in range(4)], n_folds=2)
    assert sorted(folds) == [0, 0, 1, 1]


def test_ten_folds_of_a_growing_collection_stay_even() -> None:
    known: dict[str, int] = {}
    for size in range(10, 101, 10):
        names = [f"g{n:03d}" for n in range(size)]
        known = dict(zip(names, _folds([(n, "fox", known.get(n), False) for n in names], 10), strict=True))
    counts = sorted(Counter(known.values()).values())
    assert all(b - a <= 1 for a, b in pairwise(counts))
    assert counts[-1] - counts[0] == 0
