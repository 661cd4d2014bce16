from pathlib import Path

import numpy as np
import pytest

from ml.tuning import Fit, Fits

WITHOUT = [frozenset({0}), frozenset({1})]


@pytest.mark.parametrize("damage", ["cut", "emptied", "older layout"])
def test_a_fit_that_is_damaged_or_of_an_older_layout_is_done_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[frozenset[int]] = []

    def fit(_: object, epochs: int, left_out: frozenset[int]) -> Fit:
        done.append(left_out)
        return Fit(np.full(3, len(done), np.float32), {"loss": [1.0]})

    Fits(tmp_path, fit)({"width": 1}, 2, WITHOUT)
    (first, _) = sorted(tmp_path.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    if damage == "older layout":
        np.savez(first, probabilities=np.zeros(3), said=np.array("{}"))
    else:
        first.write_bytes(first.read_bytes()[: -100 if damage == "cut" else 0])
    again = Fits(tmp_path, fit)
    given = again({"width": 1}, 2, WITHOUT)
    assert done == [*WITHOUT, WITHOUT[0]]
    assert [one.probabilities[0] for one in given] == [3, 2]
    assert again.asked == 2
    assert first.name in caplog.text
