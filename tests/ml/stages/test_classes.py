"""A network from scratch that is told every photo's class."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from world import World, tuning_of

from ml.models.hypermodel import SIDE
from ml.results import StageResult
from ml.stages import classes, final
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Job
from ml.stages.scratch import Bench


@pytest.fixture(scope="module")
def job(world: World) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return world.job("classes", class_epochs=30, augmentations=["mirror", "mixup"])


@pytest.fixture(scope="module")
def result(job: Job) -> StageResult:
    return classes.run(job, tuning_of(job))


def test_it_learns_all_classes_from_all_photos(job: Job, result: StageResult) -> None:
    bench = Bench.of(job, SIDE, "all", 0, by_class=True)
    names = np.unique(bench.classes)
    np.testing.assert_array_equal(names[bench.targets.argmax(axis=1)], bench.classes)
    np.testing.assert_array_equal(bench.targets.sum(axis=1), 1)
    assert names[bench.positive].tolist() == [job.animal]

    (candidate,) = result.candidates
    assert (result.stage, candidate.name) == (classes.STAGE, classes.STAGE)
    assert candidate.settings["negatives"] == "all"
    (searched,) = tuning_of(job).candidates
    assert candidate.settings["config"]["filters"] > searched.settings["config"]["filters"]
    assert candidate.accuracy == result.metrics["cv_accuracy_mean"]
    assert result.metrics["cv_all_roc_auc"] > 0.8  # drawings are easy
    assert len(job.tracker.read_table(result.run_id, OUT_OF_FOLD)) == len(job.dataset.training)
    assert classes.run(job, tuning_of(job)).reused


def test_its_model_says_how_probable_the_animal_is(job: Job, result: StageResult, tmp_path: Path) -> None:
    (candidate,) = result.candidates
    photos = job.dataset.images(range(len(job.dataset.rows)), SIDE, SIDE)
    model = final.final_model(job, candidate)
    said = model.predict(photos, verbose=0)[:, 0]
    mine = job.dataset.rows.label.to_numpy(bool)
    assert said[mine].mean() > 0.5 > said[~mine].mean()

    # What is added to the log-odds is in the model, and nothing else.
    plain = final.final_model(job, replace(candidate, settings=candidate.settings | {"shift": 0.0}))
    odds, before = (np.log(p / (1 - p)) for p in (said, plain.predict(photos, verbose=0)[:, 0]))
    np.testing.assert_allclose(odds - before, candidate.settings["shift"], atol=1e-2)

    model.save(tmp_path / "classes.keras")
    loaded = keras.models.load_model(tmp_path / "classes.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(photos, verbose=0)[:, 0], said)
