"""Fine-tuning: what it costs, what it keeps, and that its answers are one network's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import expit, logit
from world import World

from ml.crossvalidation import Fold
from ml.models import finetuning
from ml.models.applications import application
from ml.models.average import average_probabilities
from ml.models.backbones import BACKBONES, Backbone
from ml.results import StageResult
from ml.stages import average, balancing, final, finetune, transfer
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Job

MOBILE = "MobileNet025"
QUICK = finetune.HOW | {"views": 2}


def random_weights(name: str) -> keras.Model:
    """The same every time: what stands for a trained one is as reproducible."""
    keras.utils.set_random_seed(0)
    return application(name, pretrained=False)


@dataclass(frozen=True)
class Tuned:
    job: Job
    frozen: StageResult
    tuned: StageResult
    passes: list[int]
    """How many photos passed the frozen lower half, a call each."""


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[pytest.MonkeyPatch]:
    """A small network on small photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, MOBILE, Backbone(MOBILE, random_weights, canvas=(64, 64), cut="conv_pw_11_relu"))
        yield patch


@pytest.fixture(scope="module")
def done(world: World, small: pytest.MonkeyPatch) -> Tuned:
    passes: list[int] = []
    split = finetuning.split

    def counting(backbone: keras.Model, layer: str) -> finetuning.Halves:
        lower, upper = split(backbone, layer)
        forward = lower.predict_on_batch

        def count(images: np.ndarray) -> list[np.ndarray]:
            passes.append(len(images))
            return forward(images)

        lower.predict_on_batch = count
        return finetuning.Halves(lower, upper)

    small.setattr(finetuning, "split", counting)
    small.chdir(world.settings.home)
    job = world.job("finetune", finetune_epochs=1)
    frozen = transfer.run(job, MOBILE)
    return Tuned(job, frozen, finetune.run(job, [frozen], QUICK), passes)


def test_every_photo_is_judged_and_every_epoch_is_shown(done: Tuned) -> None:
    table = done.job.tracker.read_table(done.tuned.run_id, OUT_OF_FOLD)
    assert len(table) == len(done.job.dataset.training)
    assert table.probability.between(0, 1).all()
    only_frozen = ("course_", "unseen_")
    assert {name for name in done.frozen.metrics if not name.startswith(only_frozen)} == set(done.tuned.metrics)
    assert any("learning_curves" in name for name in done.job.tracker.pictures(done.tuned.run_id))


def test_no_photo_passes_the_lower_half_twice(done: Tuned, tmp_path: Path) -> None:
    once = QUICK["views"] * len(done.job.dataset.training)
    assert sum(done.passes) == once

    (candidate,) = done.tuned.candidates
    assert candidate.name == f"finetune {MOBILE}"
    network = final.final_model(done.job, candidate)
    assert sum(done.passes) == once

    indices, padding = np.arange(6), candidate.settings["padding"]
    said = final.predict(network, done.job.dataset, indices, padding)
    network.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras", safe_mode=True)
    np.testing.assert_allclose(final.predict(loaded, done.job.dataset, indices, padding), said, atol=1e-5)


def test_trainings_end_in_the_average_of_their_weights(done: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    train, ends = finetune._Tuning._train, []

    def watched(self: finetune._Tuning, *told: Any) -> dict[str, list[float]]:
        history = train(self, *told)
        ends.append((self._model.get_weights(), history))
        return history

    monkeypatch.setattr(finetune._Tuning, "_train", watched)
    (candidate,) = done.tuned.candidates
    tuning = finetune._Tuning(done.job, candidate.settings)
    _, curves = tuning.fit(np.arange(len(done.job.dataset.training)))

    (first, said), (second, also_said) = ends
    kernels = [weights[-2] for weights in (first, second, tuning._model.get_weights())]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    np.testing.assert_allclose(kernels[2], (kernels[0] + kernels[1]) / 2, atol=1e-6)
    assert curves["loss"] == pytest.approx(np.mean([said["loss"], also_said["loss"]], axis=0))


def test_a_fold_is_balanced_by_what_the_others_say() -> None:
    """A network that says yes too readily is mended, and no fold has a say in its own threshold."""
    random = np.random.default_rng(0)
    labels = np.arange(500) % 5 == 0
    odds = random.normal(np.where(labels, 4, 0), 1)  # the best place to part them is 2
    parts = np.array_split(random.permutation(500), 5)
    folds = [Fold(part, expit(odds[part]), {}, {"train_accuracy": 1.0}) for part in parts]

    balanced, shift = balancing.balance(folds, labels)
    assert shift == pytest.approx(-2, abs=0.3)
    for fold in balanced:
        moved = logit(fold.probabilities) - odds[fold.held_out]
        np.testing.assert_allclose(moved, shift, atol=0.3)
        assert fold.metrics["accuracy"] > 0.9
        assert fold.metrics["train_accuracy"] == 1

    labels[parts[0]] = ~labels[parts[0]]
    again, _ = balancing.balance(folds, labels)
    np.testing.assert_array_equal(again[0].probabilities, balanced[0].probabilities)
    assert (again[1].probabilities != balanced[1].probabilities).any()


def test_it_votes_beside_the_frozen_one(done: Tuned, tmp_path: Path) -> None:
    averaged = average.run(done.job, [done.frozen, done.tuned])
    assert averaged is not None
    (candidate,) = averaged.candidates
    members = [*done.frozen.candidates, *done.tuned.candidates]
    assert [member["name"] for member in candidate.settings["members"]] == [member.name for member in members]

    network = final.final_model(done.job, candidate)
    indices, padding = np.arange(6), candidate.settings["padding"]
    apart = [final.predict(final.final_model(done.job, m), done.job.dataset, indices, padding) for m in members]
    network.save(tmp_path / "average.keras")
    loaded = keras.models.load_model(tmp_path / "average.keras", safe_mode=True)
    together = final.predict(loaded, done.job.dataset, indices, padding)
    np.testing.assert_allclose(together, average_probabilities(apart, candidate.settings["weights"]), atol=1e-3)


def test_a_killed_task_goes_on_with_the_fold_that_it_was_at(
    done: Tuned, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, judged = finetune._Tuning.judge, []

    def dies_in_the_third(self: finetune._Tuning, fold: int) -> Fold:
        judged.append(fold)
        if len(judged) == 3:
            raise KeyboardInterrupt
        return judge(self, fold)

    monkeypatch.setattr(finetune._Tuning, "judge", dies_in_the_third)
    again = world.job("killed", force=True, finetune_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        finetune.run(again, [done.frozen], QUICK)
    resumed = finetune.run(again, [done.frozen], QUICK)
    assert judged == [0, 1, 2, 2, 3, 4]
    tables = [done.job.tracker.read_table(result.run_id, OUT_OF_FOLD).probability for result in (resumed, done.tuned)]
    np.testing.assert_allclose(*tables, atol=1e-4)
