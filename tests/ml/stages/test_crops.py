"""Crops of a small world of drawings: by a table of boxes, and without one."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from world import World

from ml.data.crops import BOXES
from ml.errors import DataError
from ml.results import StageResult
from ml.stages import crops
from ml.stages.job import GanJob


@pytest.fixture(scope="module")
def cropped(world: World) -> tuple[GanJob, StageResult]:
    with pytest.MonkeyPatch.context() as patch, world.boxes([]):
        patch.chdir(world.settings.home)
        job = world.gan_job("crops")
        return job, crops.run(job)


def test_without_a_table_the_drawings_are_aligned_with_each_other(cropped: tuple[GanJob, StageResult]) -> None:
    job, result = cropped
    assert crops.BY_LIKENESS in result.summary
    assert result.metrics["n_crops"] >= 10
    assert result.metrics["likeness"] > 0.1
    assert "crops" in job.tracker.pictures(result.run_id)


def test_training_and_held_out_crops_share_no_photo(cropped: tuple[GanJob, StageResult]) -> None:
    job, result = cropped
    found = crops.of(job)
    assert found.training.shape == (len(found.training_paths), 38, 38, 3)
    assert found.held_out.shape == (len(found.held_out_paths), 32, 32, 3)
    assert found.training.dtype == found.held_out.dtype == np.uint8
    assert len(found.training) + len(found.held_out) == result.metrics["n_crops"]
    rows = job.dataset.training.set_index("path")
    assert set(rows.fold[found.held_out_paths]) == {crops.HELD_OUT}
    assert crops.HELD_OUT not in set(rows.fold[found.training_paths])
    assert not set(rows.group[found.held_out_paths]) & set(rows.group[found.training_paths])
    assert set(rows.label[found.held_out_paths + found.training_paths]) == {1}


def test_the_same_work_is_not_done_again(world: World, cropped: tuple[GanJob, StageResult]) -> None:
    again = world.gan_job("crops again", seed=5)
    with world.boxes([]):
        result = crops.run(again)
    assert result.reused
    assert crops.key(again) == cropped[1].run_id


def test_the_drawings_come_with_a_table_that_is_no_photo(
    make_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, cropped: tuple[GanJob, StageResult]
) -> None:
    world = make_world()
    monkeypatch.chdir(world.settings.home)
    job = world.gan_job("drawn heads")
    assert not job.dataset.rows.path.str.endswith(BOXES).any()
    result = crops.run(job)
    assert crops.BY_TABLE in result.summary
    assert result.metrics["likeness"] > cropped[1].metrics["likeness"]


def test_who_asks_before_they_are_cut_is_told(world: World) -> None:
    with pytest.raises(DataError, match="Run the task crops first"):
        crops.of(world.gan_job("too early"))


def test_a_table_beside_the_photos_goes_first(
    make_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    monkeypatch.chdir(world.settings.home)
    job = world.gan_job("table")
    rows = job.dataset.training
    mine = rows[rows.label == 1]
    names = [Path(path).name for path in mine.path]
    with world.boxes([f"{name},0.25,0.25,0.75,0.75" for name in names[1:]]), caplog.at_level(logging.WARNING):
        result = crops.run(job)
    assert crops.BY_TABLE in result.summary
    assert "1 left out" in result.summary
    assert result.metrics["n_crops"] == len(mine) - 1
    found = crops.of(job)
    assert mine.path.iloc[0] not in found.training_paths + found.held_out_paths
    if result.metrics["likeness"] < crops.UNALIGNED:
        assert "look unaligned" in caplog.text
        assert "look unaligned" in result.summary


@pytest.mark.parametrize(
    ("probabilities", "shown"),
    [
        ([0.95, 0.2, 0.99, 0.91, 0.89], [True, False, True, True, False]),
        ([0.1, 0.2, 0.3, 0.4], [False, False, True, True]),
        ([0.999, 0.9999, 0.998, 0.99], [True, True, False, False]),
        ([1.0, 1.0, 1.0], [True, True, True]),
        ([0.5], [True]),
    ],
)
def test_the_half_of_the_crops_that_the_champion_is_surer_of_is_shown(
    probabilities: list[float], shown: list[bool]
) -> None:
    assert crops.sure(np.array(probabilities)).tolist() == shown
