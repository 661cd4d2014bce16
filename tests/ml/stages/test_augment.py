import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from world import World, tuning_of

from ml.models.hypermodel import SIDE
from ml.results import StageResult
from ml.stages import augment
from ml.stages.job import Job


@pytest.fixture(scope="module")
def job(world: World) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return world.job("augment", augmentations=["mirror", "brightness", "mixup"])


@pytest.fixture(scope="module")
def tuned(job: Job) -> StageResult:
    return tuning_of(job)


@pytest.fixture(scope="module")
def fits() -> list[tuple[dict, set[int]]]:
    """Of every fit: its configuration, and the folds trained on."""
    return []


@pytest.fixture(scope="module")
def result(job: Job, tuned: StageResult, fits: list[tuple[dict, set[int]]]) -> StageResult:
    fit = augment.Course.fit

    def watching(self, config, places, watched=None):  # type: ignore[no-untyped-def]
        fits.append((config, set(np.unique(self.bench.folds[places]))))
        return fit(self, config, places, watched)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment.Course, "fit", watching)
        return augment.run(job, tuned, copies=2)


def test_it_proposes_a_candidate_of_its_own(job: Job, result: StageResult) -> None:
    (candidate,) = result.candidates
    assert result.stage == candidate.name == "augment x2"
    assert candidate.accuracy == result.metrics["cv_accuracy_mean"]
    assert candidate.complexity > 0
    assert candidate.settings["copies"] == 2
    assert candidate.settings["augmentations"] == ["mirror", "brightness", "mixup"]
    assert candidate.settings["padding"] is None
    assert not result.reused


def test_the_same_work_is_done_once(job: Job, tuned: StageResult, result: StageResult) -> None:
    again = augment.run(job, tuned, copies=2)
    assert again.reused
    assert again.run_id == result.run_id


def test_each_fold_is_trained_with_what_was_chosen_without_it(
    tuned: StageResult, result: StageResult, fits: list[tuple[dict, set[int]]]
) -> None:
    by_fold = tuned.candidates[0].settings["by_fold"]
    folds = {int(fold) for fold in by_fold}
    assert len(fits) == len(folds)
    for config, trained in fits:
        (left_out,) = folds - trained
        assert config == by_fold[str(left_out)]


def test_the_final_model_is_reproducible_and_needs_no_code_of_ours(
    job: Job, result: StageResult, tmp_path: Path
) -> None:
    settings = result.candidates[0].settings
    model = augment.final_model(job, settings)
    photos = job.dataset.images(range(6), SIDE, SIDE)
    answers = model.predict(photos, verbose=0)
    np.testing.assert_array_equal(answers, augment.final_model(job, settings).predict(photos, verbose=0))
    assert not [layer.name for layer in model.layers if "random" in layer.name]

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "photos.npy", photos)
    script = (
        "import keras, numpy, sys\n"
        "model = keras.saving.load_model('model.keras', safe_mode=True)\n"
        "numpy.save('answers.npy', model.predict(numpy.load('photos.npy'), verbose=0))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'ml']\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), answers, atol=1e-6)
