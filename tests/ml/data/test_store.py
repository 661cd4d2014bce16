import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from buckets import S3, Bucket

from ml import crossvalidation, settings
from ml.crossvalidation import Fold
from ml.data import cache, manifest, scanning, store
from ml.data.files import replacing
from ml.data.scores import Unfinished
from ml.errors import StorageError
from ml.tuning import Fit, Fits

Machine = Callable[[str], Path]
NAMES = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("B")` goes to that machine, and returns its home; all have a folder of the bucket in common."""
    monkeypatch.setenv("MENAGERIE_STORE", f"{bucket.url}/zoo")

    def go(name: str) -> Path:
        monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / name))
        return settings.read().home

    return go


def write(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text)


def never(*_: object) -> np.ndarray:
    raise AssertionError("computed again")


def test_features_and_maps_that_one_machine_has_computed_the_other_takes(machine: Machine) -> None:
    here = machine("A") / "cache"
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    cache.features(here / "features/net", NAMES[:2], lambda missing: rows[missing])
    cache.maps(here / "maps/net", NAMES[:2], lambda missing, later: rows[missing])

    here = machine("B") / "cache"
    assert np.array_equal(cache.features(here / "features/net", NAMES[:2], never), rows[:2])
    assert np.array_equal(np.stack(cache.maps(here / "maps/net", NAMES[:2], never)), rows[:2])
    asked: list[list[int]] = []
    cache.features(here / "features/net", NAMES, lambda missing: (asked.append(missing), rows[missing])[1])
    assert asked == [[2]]

    here = machine("A") / "cache"
    assert np.array_equal(cache.features(here / "features/net", NAMES, never), rows)


def test_a_photo_that_one_machine_has_decoded_the_other_does_not(
    machine: Machine, fill: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "photos", {"fox": 3})
    table = scanning.scan(root, machine("A") / "cache")

    here = machine("B") / "cache"
    with monkeypatch.context() as patch:
        patch.setattr("ml.data.photos.inspect", never)
        assert scanning.scan(root, here).equals(table)
    assert not (cache.decoded(here) / "pixels").exists(), "pixels are fetched when they are looked at, and not before"
    cache.fetch_pixels(here, table.sha256)
    assert len(list((cache.decoded(here) / "pixels").glob("*/*.npy"))) == 3
    assert cache.get_pixels(machine("C") / "cache", table.sha256[0]) is not None
    assert cache.get_pixels(machine("C") / "cache", NAMES[0]) is None


def test_folds_that_a_killed_machine_has_judged_another_does_not(machine: Machine) -> None:
    judged: list[str] = []

    def judge(number: int) -> Fold:
        where = settings.read().home.name
        if (where, number) == ("A", 2):
            raise KeyboardInterrupt
        judged.append(f"{where}{number}")
        return Fold(np.array([number]), np.array([number / 10], np.float32), {}, {})

    work = machine("A") / "work/run/key"
    with pytest.raises(KeyboardInterrupt):
        crossvalidation.cross_validate(range(4), work, judge)
    work = machine("B") / "work/run/key"
    store.renew_folder(work)
    folds = crossvalidation.cross_validate(range(4), work, judge)
    assert judged == ["A0", "A1", "B2", "B3"]
    assert [fold.probabilities[0] for fold in folds] == pytest.approx([0.0, 0.1, 0.2, 0.3])

    crossvalidation.forget(work)
    assert store.names(work) == set()
    work = machine("A") / "work/run/key"
    assert (work / "fold-0.npz").exists(), "A was killed, and knows nothing of what B did since"
    store.renew_folder(work)
    assert not any(work.iterdir())


def test_a_checkpoint_that_is_replaced_again_and_again_is_the_last_one_everywhere(machine: Machine) -> None:
    write(machine("A") / "work/run/key/checkpoint", "step 1")
    work = machine("B") / "work/run/key"
    store.renew_folder(work)
    write(work / "checkpoint", "step 2")
    work = machine("A") / "work/run/key"
    store.renew_folder(work)
    assert (work / "checkpoint").read_text() == "step 2"


def test_fits_are_done_once(machine: Machine) -> None:
    fits: list[str] = []

    def fit(configuration: dict, epochs: int, left_out: frozenset[int]) -> Fit:
        fits.append(settings.read().home.name)
        return Fit(np.array([0.5], np.float32), {})

    for name in ("A", "B"):
        (found,) = Fits(machine(name) / "work/run/fits", fit)({"rate": 0.1}, 3, [frozenset({0})])
        assert found.probabilities[0] == 0.5
    assert fits == ["A"]


def test_a_dataset_that_one_machine_accepts_is_accepted_on_all(machine: Machine, bucket: Bucket) -> None:
    folders = [machine(name) / "datasets/fox" for name in "AB"]
    for number, name in enumerate(("A", "B")):
        machine(name)
        digest = f"{number}" * 16
        write(folders[number] / f"{digest}.parquet", "a manifest")
        manifest.publish(folders[number], digest)
        for other, folder in zip("AB", folders, strict=True):
            machine(other)
            assert manifest.accepted(folder) == digest
    assert "zoo/datasets/fox/accepted.json" in bucket.names()


def test_a_scoring_goes_on_where_another_machine_was(machine: Machine) -> None:
    table = scanning.pd.DataFrame({"path": ["a.jpg"]})
    Unfinished.begin(machine("A") / "scores/x/unfinished", "key", "today", [b"a.jpg"]).keep(0, table)
    work = Unfinished.find(machine("B") / "scores/x/unfinished", "key")
    assert work is not None
    assert work.n_done == 1
    work.forget()
    assert Unfinished.find(machine("A") / "scores/x/unfinished", "key") is None


def test_what_is_of_one_machine_stays_there(machine: Machine, bucket: Bucket, tmp_path: Path) -> None:
    home = machine("A")
    write(home / "keras/models/weights.h5", "large")
    write(tmp_path / "cache/elsewhere", "not in the home")
    assert bucket.names() == set()


def test_without_a_store_no_driver_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MENAGERIE_STORE", raising=False)
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path))
    monkeypatch.setattr("ml.data.objects.Place.at", never)
    write(tmp_path / "work/file", "text")
    store.fetch(tmp_path / "work/other", anew=True)
    store.renew_folder(tmp_path / "work")
    assert (tmp_path / "work/file").read_text() == "text"


WRITES = """
from ml import settings
from ml.data.files import replacing
with replacing(settings.read().home / "work/checkpoint") as aside:
    aside.write_bytes(bytes(30_000_000))
    print("writes", flush=True)
"""


def test_what_was_not_put_whole_is_seen_nowhere(machine: Machine, s3: S3, bucket: Bucket) -> None:
    home = machine("A")
    with s3.silent():
        writer = subprocess.Popen([sys.executable, "-c", WRITES], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writes\n"
        time.sleep(2)
        assert writer.poll() is None, "it waits for the store"
        writer.kill()
        writer.wait()
    assert not (home / "work/checkpoint").exists()
    assert bucket.names() == set()


def test_a_store_that_refuses_is_named_and_nothing_is_seen_here(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = machine("A")
    monkeypatch.setenv("MENAGERIE_STORE", "s3://no-such-bucket/zoo")
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/zoo/work/file could not be put there: .*bucket"):
        write(home / "work/file", "text")
    assert not any((home / "work").iterdir())


def test_pixels_that_are_gone_from_the_store_are_put_there_again(
    machine: Machine, bucket: Bucket, fill: Callable, tmp_path: Path
) -> None:
    root, here = fill(tmp_path / "photos", {"fox": 2}), machine("A") / "cache"
    table = scanning.scan(root, here)
    for name in bucket.names():
        if "/pixels/" in name:
            bucket.remove(name)
    assert cache.kept_pixels(here) == set()
    scanning.scan(root, here)
    assert cache.kept_pixels(here) == set(table.sha256)
