import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ml.data import cache

NAMES = [f"{index:064x}" for index in range(6)]


def _rows(indices: list[int]) -> np.ndarray:
    return np.array([[index, index / 2] for index in indices], np.float32)


def _never(indices: list[int]) -> np.ndarray:
    raise AssertionError(f"computed again: {indices}")


def test_pixels_come_back_as_they_were_put(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert cache.get_pixels(tmp_path, NAMES[0]) is None
    assert cache.kept_pixels(tmp_path) == set()
    cache.put_pixels(tmp_path, NAMES[0], pixels)
    assert cache.kept_pixels(tmp_path) == {NAMES[0]}
    np.testing.assert_array_equal(cache.get_pixels(tmp_path, NAMES[0]), pixels)


@pytest.mark.parametrize("keep", [0, 4, 60, 200])
def test_pixels_that_a_crash_cut_short_count_as_absent(keep: int, tmp_path: Path) -> None:
    cache.put_pixels(tmp_path, NAMES[0], np.ones((50, 70, 3), np.uint8))
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:keep])
    assert cache.get_pixels(tmp_path, NAMES[0]) is None


def test_only_the_rows_that_are_missing_are_computed(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def compute(indices: list[int]) -> np.ndarray:
        asked.append(indices)
        return _rows(indices)

    first = cache.features(tmp_path, NAMES[:3], compute)
    np.testing.assert_array_equal(first, _rows([0, 1, 2]))
    assert first.dtype == np.float32
    order = [5, 1, 3, 0]
    again = cache.features(
        tmp_path, [NAMES[index] for index in order], lambda missing: compute([order[i] for i in missing])
    )
    np.testing.assert_array_equal(again, _rows(order))
    assert asked == [[0, 1, 2], [5, 3]]
    np.testing.assert_array_equal(cache.features(tmp_path, NAMES[:2], _never), _rows([0, 1]))


def test_rows_that_could_not_be_computed_are_not_kept(tmp_path: Path) -> None:
    def fail(indices: list[int]) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.features(tmp_path, NAMES, fail)
    np.testing.assert_array_equal(cache.features(tmp_path, NAMES, _rows), _rows([0, 1, 2, 3, 4, 5]))


@pytest.mark.parametrize("keep", [0, 10, 100, 400])
def test_a_part_that_a_crash_cut_short_is_computed_again_once(keep: int, tmp_path: Path) -> None:
    cache.features(tmp_path, NAMES[:2], _rows)
    cache.features(tmp_path, NAMES[:4], _rows)
    first, second = sorted(tmp_path.glob("*.npz"))
    second.write_bytes(second.read_bytes()[:keep])
    (tmp_path / ".killed.npz").write_bytes(first.read_bytes()[:keep])
    asked: list[list[int]] = []
    features = cache.features(tmp_path, NAMES[:4], lambda missing: asked.append(missing) or _rows(missing))  # type: ignore[func-returns-value]
    np.testing.assert_array_equal(features, _rows([0, 1, 2, 3]))
    assert asked == [[2, 3]]
    np.testing.assert_array_equal(cache.features(tmp_path, NAMES[:4], _never), _rows([0, 1, 2, 3]))


def test_rows_in_the_wrong_number_are_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shorter|length"):
        cache.features(tmp_path, NAMES[:3], lambda missing: _rows(missing[:2]))
    np.testing.assert_array_equal(cache.features(tmp_path, NAMES[:3], _rows), _rows([0, 1, 2]))


TWO_AT_ONCE = """
import os, sys, time
from pathlib import Path
import numpy as np
from ml.data import cache

def compute(missing):
    with open(sys.argv[2], "a") as log:
        log.write(f"{os.getpid()} {missing}\\n")
    time.sleep(0.3)
    return np.array(missing, np.float32)[:, None]

Path(sys.argv[3], str(os.getpid())).touch()
while len(os.listdir(sys.argv[3])) < 2:
    time.sleep(0.005)
print(cache.features(Path(sys.argv[1]), ["a", "b"], compute).tolist())
"""


def test_of_two_processes_at_once_one_computes_and_both_have_the_rows(tmp_path: Path) -> None:
    (tmp_path / "started").mkdir()
    arguments = [sys.executable, "-c", TWO_AT_ONCE, tmp_path / "cache", tmp_path / "log", tmp_path / "started"]
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["[[0.0], [1.0]]\n"] * 2
    assert len((tmp_path / "log").read_text().splitlines()) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from ml.data import cache
from ml.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
folder = Path(sys.argv[1])
for write in (
    lambda: cache.put_pixels(folder, "ab" * 32, np.ones((100, 100, 3), np.uint8)),
    lambda: cache.features(folder / "features", ["a", "b"], lambda missing: np.ones((2, 1000))),
):
    try:
        write()
    except StorageError as error:
        print(error)
"""


def test_on_a_full_disk_the_errors_name_the_files_and_nothing_half_written_stays(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    pixels, features = run.stdout.splitlines()
    assert pixels.startswith(f"Could not write {cache.decoded(tmp_path)}/pixels/ab/{'ab' * 32}.npy: ")
    assert features.startswith(f"Could not write {tmp_path}/features/000000000-a.npz: ")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]


def test_maps_are_computed_once_in_parts_and_stay_in_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PART", 2)
    asked: list[tuple[list[int], int]] = []

    def compute(indices: list[int], later: int) -> np.ndarray:
        asked.append((indices, later))
        return _rows(indices)

    maps = cache.maps(tmp_path, NAMES[:5], compute)
    assert asked == [([0, 1], 3), ([2, 3], 1), ([4], 0)]
    np.testing.assert_array_equal(np.stack(maps), _rows([0, 1, 2, 3, 4]))
    assert all(isinstance(row, np.memmap) and row.dtype == np.float16 for row in maps)
    cache.maps(tmp_path, NAMES[5:] + NAMES[:2], compute)
    assert asked[3:] == [([0], 0)]


def test_maps_that_were_killed_or_cut_short_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 2)

    def dies(indices: list[int], later: int) -> np.ndarray:
        if indices[0] == 2:
            raise KeyboardInterrupt
        return _rows(indices)

    with pytest.raises(KeyboardInterrupt):
        cache.maps(tmp_path, NAMES[:4], dies)
    asked: list[list[int]] = []

    def compute(indices: list[int], later: int) -> np.ndarray:
        asked.append(indices)
        return _rows(indices)

    cache.maps(tmp_path, NAMES[:4], compute)
    assert asked == [[2, 3]]
    for size in (0, 40, 200):
        (first, _) = sorted(tmp_path.glob("*.npy"))
        first.write_bytes(first.read_bytes()[:size])
        np.testing.assert_array_equal(np.stack(cache.maps(tmp_path, NAMES[:4], compute)), _rows([0, 1, 2, 3]))
