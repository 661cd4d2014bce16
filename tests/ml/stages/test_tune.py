"""The searches for a network from scratch: what they leave, what they hand on, and how what they found is judged."""

import json
import logging
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from world import World

from ml.errors import ParameterError
from ml.models import hypermodel
from ml.results import StageResult
from ml.stages import final, search, tune
from ml.stages.job import Job
from ml.stages.networks import Networks
from ml.stages.scratch import Bench
from ml.tuning import Trial, ranked

TINY = hypermodel.START[0] | {"filters": 16, "blocks": 1, "colours": 0, "dense": 0, "batch_norm": False}
OTHER = TINY | {"filters": 24}


@pytest.fixture(autouse=True)
def _tiny_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypermodel, "START", (TINY, OTHER))


def tuned(job: Job) -> tuple[list[StageResult], StageResult]:
    searches = [search.run(job, name) for name in search.searches(job)]
    return searches, tune.run(job, searches)


def children(job: Job, run_id: str) -> dict:
    experiment = job.tracker.client.get_run(run_id).info.experiment_id
    runs = job.tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {run.info.run_name: run for run in runs}


def test_a_nested_search_leaves_trials_and_an_honest_candidate_and_hands_on_its_best(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ml")
    job = world.job("nested", tune_mode="nested", tune_trials=1, tune_epochs=2, tune_minutes=9)
    searches, result = tuned(job)
    (candidate,) = result.candidates
    assert candidate.name == "tune"
    assert candidate.settings == json.loads(json.dumps(candidate.settings))
    assert candidate.settings["config"] == TINY
    assert candidate.settings["by_fold"] == {str(fold): TINY for fold in range(5)}
    assert "inside each fold" in result.summary
    assert 0 <= result.metrics["cv_accuracy_mean"] <= 1

    table = job.tracker.read_table(result.run_id, "trials")
    assert list(table.outer_fold) == ["none", "0", "1", "2", "3", "4"]
    assert table.score.between(0, 1).all()
    assert TINY.keys() <= set(table.columns)
    fits = {found.stage: found.metrics["fits_asked_for"] for found in searches}
    assert fits == {"search all 5 folds": 5} | {f"search without fold {fold} of 5": 4 for fold in range(5)}
    trial = children(job, searches[3].run_id)["trial 00"]
    assert trial.data.params["filters"] == "16"
    assert len(job.tracker.client.get_metric_history(trial.info.run_id, "loss")) == 2
    assert "trial 1 of 1 without fold 2, AUC " in caplog.text
    assert not list(job.settings.home.glob(f"work/{job.parent}/*"))

    model = final.final_model(job, candidate)
    model.save(tmp_path / "tuned.keras")
    loaded = keras.models.load_model(tmp_path / "tuned.keras", safe_mode=True)
    said = [final.predict(one, job.dataset, np.arange(4), None) for one in (model, loaded)]
    np.testing.assert_allclose(*said, atol=1e-5)

    once = world.job("once", tune_mode="once", tune_trials=1, tune_epochs=1, tune_minutes=9)
    _, again = tuned(once)
    assert f"begins with the best of the last, MLflow run {searches[0].run_id}" in caplog.text
    assert "optimistic" in again.summary
    table = once.tracker.read_table(again.run_id, "trials")
    assert list(table.outer_fold) == ["none"]
    assert table.loc[0, "filters"] == 16
    assert again.candidates[0].settings["by_fold"].keys() == set("01234")


def test_each_search_begins_with_what_the_same_search_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    space = keras_tuner.HyperParameters()
    hypermodel.declare(space)

    def trial(number: int, score: float, configuration: dict, stopped: bool = False) -> Trial:
        return Trial(0, number, configuration, 3, (score, score), stopped, 1.0, {})

    job = world.job("handed on")
    rates = [3e-4 * 1.1234567**power for power in range(8)]
    tried = [trial(n, 0.5 + n / 100, TINY | {"learning_rate": rate}) for n, rate in enumerate(rates)]
    tried.append(trial(8, 0.9, OTHER, stopped=True))
    tried.append(trial(9, 0.95, {name: value for name, value in TINY.items() if name != "filters"} | {"filters": 7}))
    job.tracker.client.log_text(job.parent, search.table_of(ranked(tried)).to_csv(index=False), "tables/trials.csv")

    def last_finished(_: object, __: str, stage: str) -> str | None:
        return job.parent if stage == "search without fold 0 of 5" else None

    monkeypatch.setattr(type(job.tracker), "last_finished", last_finished)
    start = search._start(job, "without fold 0 of 5", space)
    # The space has no 7 filters, and what was stopped comes after all others.
    assert [one["learning_rate"] for one in start] == rates[:2:-1]
    assert {type(value) for value in start[0].values()} <= {int, float, bool, str}
    # Dealt into other folds, what was found without fold 0 may have seen today's fold 0.
    assert search._start(job, "without fold 0 of 4", space) == [TINY, OTHER]


def test_a_network_that_stays_compiled_is_fitted_as_if_it_were_new(world: World) -> None:
    bench = Bench.of(world.job("kept"), hypermodel.SIDE, "balanced", 3)
    networks = Networks(bench)
    without = [bench.trained_on(fold) for fold in (0, 1)]
    (first, curves), _ = networks.fit(TINY, 2, without[0]), None
    said = bench.predict(first, np.arange(20))
    networks.fit(TINY, 2, without[1])
    again, same = networks.fit(TINY, 2, without[0])
    assert again is first
    new, also_same = Networks(bench).fit(TINY, 2, without[0])
    assert new is not first
    for one in (same, also_same):
        np.testing.assert_allclose(one["loss"], curves["loss"], rtol=1e-4)
    for model in (again, new):
        np.testing.assert_allclose(bench.predict(model, np.arange(20)), said, atol=1e-4)


def test_a_nested_search_needs_three_folds(world: World) -> None:
    job = world.job("two folds", tune_mode="nested", tune_trials=1)
    rows = job.dataset.rows.assign(fold=job.dataset.rows.fold % 2)
    object.__setattr__(job.dataset, "rows", rows)
    with pytest.raises(ParameterError, match=r"3 folds or more\. Received: 2"):
        search.searches(job)
