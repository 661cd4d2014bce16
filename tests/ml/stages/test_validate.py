"""What a scan and a validation say when photos are not what their owner takes them for."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from world import make_settings

from ml.animals import Animal
from ml.errors import DataError
from ml.params import ValidateParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import promote, validate
from ml.tracking import Tracker

Fill = Callable[[Path, dict[str, int]], Path]
RUN = DagRun("validate_images", "first")


@pytest.fixture
def where(tmp_path: Path, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return make_settings(tmp_path / "home", fill(tmp_path / "photos", {"tiger": 12, "horse": 17}))


def test_a_scan_keeps_what_it_passed_over_in_mlflow(where: Settings, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("tiger/a.mp4", "tiger/b.mp4", "horse/notes.txt"):
        (where.photos / name).write_text("mine")
    (where.photos / "wolf").symlink_to(where.photos / "horse")
    validate.scan(ValidateParams(), where, RUN)
    said = "passed over: 2 .mp4 files (tiger/a.mp4, tiger/b.mp4), 1 .txt files (horse/notes.txt), 1 links to folders"
    assert said in caplog.text
    tracker = Tracker(where.mlflow_uri)
    (run,) = tracker.runs_of(RUN)
    assert run.data.metrics["n_passed_over"] == 4
    assert run.data.tags["menagerie.passed_over"].startswith(said)
    assert tracker.read_table(run.info.run_id, "passed_over")["count"].tolist() == [2, 1, 1]


def test_a_dataset_that_can_not_be_trained_on_says_why(where: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for photo in sorted((where.photos / "tiger").iterdir()):
        photo.write_bytes(b"<html>")
    os.truncate(where.photos / "tiger" / "000.jpg", 0)
    (where.photos / "big cats").symlink_to("/")
    scanned = validate.scan(ValidateParams(), where)
    with pytest.raises(DataError) as caught:
        validate.run("tiger", scanned, ValidateParams(), where, RUN)
    said = str(caught.value)
    assert said.startswith("Expected at least 5 unlike positives")
    assert (
        "Left out: 11 ('tiger/001.jpg', 'tiger/002.jpg', 'tiger/003.jpg', …) because it is no photo but an HTML page"
        in said
    )
    assert "1 ('tiger/000.jpg') because the file is empty (0 bytes)" in said
    assert "The scan has passed over: 1 links to folders (not followed: put the folder itself here) (big cats/)" in said
    assert "left out 'tiger/001.jpg': it is no photo but an HTML page" in caplog.text
    tracker = Tracker(where.mlflow_uri)
    (run,) = tracker.runs_of(RUN)
    left_out = _table(tracker, run.info.run_id, "left_out")
    assert len(left_out) == 12


def test_too_many_left_out_says_which_and_why(where: Settings) -> None:
    for photo in sorted((where.photos / "horse").iterdir())[:7]:
        photo.write_bytes(photo.read_bytes()[:900])
    scanned = validate.scan(ValidateParams(), where)
    with pytest.raises(
        DataError, match=r"(?s)More than 20% .*see the reasons; .*Left out: 7 \('horse/000.jpg', .* cut short"
    ):
        validate.run("tiger", scanned, ValidateParams(folds=2), where, RUN)


def test_a_folder_that_reads_like_the_animals_is_warned_of(where: Settings, fill: Fill) -> None:
    fill(where.photos, {"TIGER 2024": 3})
    scanned = validate.scan(ValidateParams(), where)
    validate.run("tiger", scanned, ValidateParams(), where, RUN)
    (run,) = Tracker(where.mlflow_uri).runs_of(RUN)
    assert "the folder 'TIGER 2024' (3 photos) counts as other animals than tiger" in run.data.tags["menagerie.reason"]


def test_another_animals_photos_are_known_by_its_globs_whatever_their_folder_is_called() -> None:
    known = {
        name: Animal(name=name, positives=[f"{folder}/*"], negatives=["*/*"])
        for name, folder in (("tiger", "Panthera tigris"), ("fox", "Vulpes vulpes"), ("wolf", "Canis lupus"))
    }
    table = pd.DataFrame(
        {
            "path": ["Panthera tigris/1.jpg", "Vulpes vulpes/1.jpg", "Vulpes vulpes/2.jpg", "horse/1.jpg"],
            "class": ["tiger", "Vulpes vulpes", "Vulpes vulpes", "horse"],
            "label": [1, 0, 0, 0],
            "probability": [0.9, 0.8, 0.1, 0.9],
        }
    )
    assert promote.alarms_by_animal(table, known, "tiger") == {"fox": 0.5}


def _table(tracker: Tracker, parent: str, name: str) -> pd.DataFrame:
    experiment = tracker.client.get_run(parent).info.experiment_id
    (stage,) = tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return tracker.read_table(stage.info.run_id, name)
