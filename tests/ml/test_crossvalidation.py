from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml import crossvalidation
from ml.crossvalidation import Fold


def fold(number: int) -> Fold:
    return Fold(np.array([number]), np.array([number / 10], np.float32), {"loss": [1.0]}, {"accuracy": 0.5})


def test_folds_that_an_earlier_try_has_done_are_not_done_again(tmp_path: Path) -> None:
    done = []

    def judge(number: int) -> Fold:
        if number == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return fold(number)

    with pytest.raises(KeyboardInterrupt):
        crossvalidation.cross_validate(range(4), tmp_path / "work", judge)
    done.append(-1)
    folds = crossvalidation.cross_validate(range(4), tmp_path / "work", judge)
    assert done == [0, 1, -1, 2, 3]
    assert [int(one.held_out[0]) for one in folds] == [0, 1, 2, 3]
    assert folds[3].curves == {"loss": [1.0]}
    crossvalidation.forget(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def older_layout(file: Path) -> None:
    np.savez(file, held_out=np.array([0]), probabilities=np.array([0.5]), said=np.array('{"curves": {}}'))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [older_layout, cut, emptied])
def test_a_fold_that_is_damaged_or_of_an_older_layout_is_computed_again(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    crossvalidation.cross_validate(range(2), tmp_path, fold)
    damage(tmp_path / "fold-1.npz")
    again = []

    def judge(number: int) -> Fold:
        again.append(number)
        return fold(number)

    folds = crossvalidation.cross_validate(range(2), tmp_path, judge)
    assert again == [1]
    assert [one.metrics for one in folds] == [{"accuracy": 0.5}] * 2
    assert "fold-1.npz is damaged or of another version" in caplog.text


def test_pooled_predictions_stand_where_their_photos_do() -> None:
    pooled = crossvalidation.pool([fold(2), fold(0)], 4)
    assert np.isnan(pooled[[1, 3]]).all()
    assert np.allclose(pooled[[0, 2]], [0.0, 0.2])


def test_it_tells_which_fold_is_judged_and_nothing_of_those_that_were(tmp_path: Path, told: list[str]) -> None:
    crossvalidation.cross_validate([0], tmp_path, fold)
    told.clear()
    crossvalidation.cross_validate(range(3), tmp_path, fold)
    assert told == ["fold 2 of 3", "fold 3 of 3"]
