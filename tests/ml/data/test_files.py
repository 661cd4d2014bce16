import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml.data.files import remove_unused, replacing
from ml.errors import StorageError


def test_the_file_appears_whole_when_the_block_ends_and_folders_are_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "model.bin"
    with replacing(target) as aside:
        aside.write_bytes(b"whole")
        assert not target.exists()
        assert aside.suffix == ".bin", "writers that go by the extension need it"
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_stood_there_stays_if_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail(aside: Path) -> None:
        aside.write_text("half of the n")
        raise error

    with pytest.raises(error), replacing(target) as aside:
        fail(aside)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_way_of_the_folder_is_a_storage_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"Could not write .*/file/inside") as caught,
        replacing(tmp_path / "file/inside"),
    ):
        pass
    assert "Nothing was changed" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_folder_without_rights_is_a_storage_error(unprivileged) -> None:
    locked = unprivileged.folder / "locked"
    locked.mkdir(mode=0o555)
    with (
        unprivileged(),
        pytest.raises(StorageError, match=r"Permission denied.*mend the rights"),
        replacing(locked / "file") as aside,
    ):
        aside.write_text("text")


FULL_DISK = """
import resource, sys
from pathlib import Path
from ml.data.files import remove_unused, replacing
from ml.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with replacing(Path(sys.argv[1])) as aside:
        aside.write_bytes(bytes(5000))
except StorageError as error:
    print(error)
"""


def test_on_a_full_disk_the_old_file_stays_and_the_error_names_it(tmp_path: Path) -> None:
    target = tmp_path / "kept.npy"
    target.write_text("old")
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"Could not write {target}: File too large. Nothing was changed. Make room")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "shared") as aside:
            aside.write_text("for Airflow's user and for MLflow's")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o644


def test_folders_in_which_nothing_was_written_for_long_are_removed(tmp_path: Path) -> None:
    now = time.time()
    for name, days in (("old", 40), ("new", 1), ("mixed", 40)):
        file = tmp_path / name / "fold" / "fold-0.npz"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        for path in (file, file.parent, tmp_path / name):
            os.utime(path, (now - days * 86400,) * 2)
    (tmp_path / "mixed" / "fold" / "fold-1.npz").write_bytes(b"x")
    assert remove_unused(tmp_path, 30) == [tmp_path / "old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed", "new"]
    assert remove_unused(tmp_path / "nowhere", 30) == []
