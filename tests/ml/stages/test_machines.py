"""Two machines without a volume in common: photos by URL, and an object store between them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from buckets import Bucket
from world import ANIMAL, World

from ml import crossvalidation, settings
from ml.crossvalidation import Fold
from ml.data import manifest, store
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages import features, transfer, validate
from ml.stages.job import Job

BACKBONE = "EfficientNetLite0"


def must_not_run(*_: object) -> None:
    raise AssertionError("the other machine has done this")


@pytest.fixture
def machine(
    bucket: Bucket, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Settings]:
    """`machine("B")` goes to that machine; all have an MLflow server in common."""
    bucket.put_folder("photos", drawings)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENAGERIE_PHOTOS", f"{bucket.url}/photos")
    monkeypatch.setenv("MENAGERIE_STORE", f"{bucket.url}/shared")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def go(name: str) -> Settings:
        monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / name))
        return settings.read()

    return go


def validated(here: Settings, scanned: dict[str, str] | None = None) -> StageResult:
    params = ValidateParams()
    scanned = scanned or validate.scan(params, here)
    return validate.run(ANIMAL, scanned, params, here, DagRun("validate_images", here.home.name))


def test_a_machine_goes_on_where_another_was_killed_and_does_nothing_twice(
    machine: Callable[[str], Settings], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("A")
    scanned = validate.scan(ValidateParams(), here)
    assert scanned["root"] == f"{bucket.url}/photos"
    here = machine("B")
    accepted = validated(here, scanned)
    validate.publish(accepted, here)

    whole, saved = crossvalidation._save, []

    def die_in_the_third_fold(file: Path, fold: Fold) -> None:
        if len(saved) == 2 and settings.read().home.name == "A":
            raise KeyboardInterrupt
        saved.append(file.name)
        whole(file, fold)

    monkeypatch.setattr(crossvalidation, "_save", die_in_the_third_fold)
    killed = World(machine("A"), accepted).job("killed")
    with pytest.raises(KeyboardInterrupt):
        transfer.run(killed, BACKBONE)

    here = machine("C")
    monkeypatch.setattr("ml.data.photos.inspect", must_not_run)
    monkeypatch.setattr(features, "_forward", must_not_run)
    assert validated(here).reused, "the same photos, and none decoded again"
    result = transfer.run(Job.from_dict(killed.to_dict(), here), BACKBONE)
    assert not result.reused
    assert saved == [f"fold-{fold}.npz" for fold in range(5)], "each is judged by one machine"
    assert store.names(here.home / "work") == set(), "checkpoints of work that is done are removed"
    assert manifest.validation_run(here.datasets / ANIMAL) == accepted.run_id
