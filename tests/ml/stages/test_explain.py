"""The explanation of a real, tiny run."""

from dataclasses import replace

import numpy as np
import pytest
from world import World

from ml.results import StageResult
from ml.stages import baseline, compare, explain, final, transfer
from ml.stages.job import Job


@pytest.fixture(scope="module")
def job(world: World) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return world.job("explained", baseline_epochs=2)


@pytest.fixture(scope="module")
def judged(world: World, job: Job) -> list[StageResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return [baseline.run(job), transfer.run(job, "EfficientNetLite0")]


def test_the_winner_and_the_network_from_scratch_are_shown(job: Job, judged: list[StageResult]) -> None:
    comparison = compare.run(job, judged)
    result = explain.run(job, comparison, judged)
    assert job.tracker.pictures(result.run_id).keys() == {"grad_cam", "feature_maps", "filters"}
    assert 0 <= result.metrics["heat_on_rim"] <= 1
    assert 0.1 < result.metrics["rim_area"] < 1
    assert comparison.candidates[0].name in result.summary
    assert explain.run(job, comparison, judged) == replace(result, reused=True)


def test_without_a_network_from_scratch_only_the_winner_is_shown(job: Job, judged: list[StageResult]) -> None:
    transferred = judged[1:]
    result = explain.run(job, compare.run(job, transferred), transferred)
    assert job.tracker.pictures(result.run_id).keys() == {"grad_cam"}


def test_a_network_from_scratch_may_be_the_winner(
    job: Job, judged: list[StageResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    fit = baseline.final_model
    monkeypatch.setattr(baseline, "final_model", lambda *values: fitted.append(fit(*values)) or fitted[-1])
    result = explain.run(job, compare.run(job, judged[:1]), judged[:1])
    assert job.tracker.pictures(result.run_id).keys() == {"grad_cam", "feature_maps", "filters"}
    assert len(fitted) == 1


def test_the_model_shown_is_the_one_that_judged_the_fold(job: Job, judged: list[StageResult]) -> None:
    """Fitted without the fold it gives the fold's own out-of-fold probabilities: it saw none of its photos."""
    fold = 3
    blind = explain.without_fold(job, fold)
    assert fold not in set(blind.dataset.training.fold)
    assert fold in set(job.dataset.training.fold)
    rows = job.dataset.training
    mine = rows[rows.fold == fold]
    for result in judged:
        (candidate,) = result.candidates
        model = final.final_model(blind, candidate)
        said = final.predict(model, job.dataset, mine.index, candidate.settings["padding"])
        table = job.tracker.read_table(result.run_id, "out_of_fold")
        assert np.allclose(said, table.probability[table.fold == fold], atol=1e-3), result.stage


def test_the_fold_with_the_most_mistakes_is_shown(job: Job) -> None:
    table = job.dataset.training.assign(probability=job.dataset.training.label.astype(float))
    wrong = table.index[table.fold == 2][:3]
    table.loc[wrong, "probability"] = 1 - table.label[wrong]
    assert explain._worst_fold(table) == 2
    assert explain._worst_fold(table[(table.fold != 2) | (table.label == 0)]) != 2  # nothing of the animal there
