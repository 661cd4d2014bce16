"""What MLflow keeps of a DAG run that failed."""

import pytest
from world import ANIMAL, World

from ml.results import DagRun
from ml.stages import failure, report
from ml.stages.job import Job


def status(job: Job, run_id: str) -> tuple[str, str]:
    run = job.tracker.client.get_run(run_id)
    return run.info.status, run.data.tags.get("menagerie.reason", "")


def killed_stage(job: Job) -> str:
    """Leave a stage's run as one that was killed leaves it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(job.tracker), "close_run", lambda *_: None)
        with job.tracker.stage(ANIMAL, job.parent, "tune", "key") as stage:
            raise KeyboardInterrupt
    assert status(job, stage.id) == ("RUNNING", "")
    return stage.id


def test_the_report_closes_what_was_killed_and_gives_the_reasons_that_tasks_noted(world: World) -> None:
    job = world.job("noted")
    left = killed_stage(job)
    dag_run = DagRun(f"retrain_{ANIMAL}", "noted")
    url = failure.note(dag_run, "compare", "DataError: no candidate", world.settings)
    assert url == job.tracker.run_url(job.parent)
    report.run(job, [])
    assert status(job, job.parent) == ("FAILED", "compare: DataError: no candidate")
    assert status(job, left)[0] == "FAILED"
    assert "it was killed" in status(job, left)[1]
    # Cleared and run once more, it does not repeat a reason that is past.
    report.run(world.job("noted"), [])
    assert status(job, job.parent)[1].startswith("missing: explore, floor")


def test_what_is_still_open_is_closed_and_what_ended_is_left(world: World) -> None:
    opened, ended = world.job("opened"), world.job("ended")
    left = killed_stage(opened)
    ended.tracker.close_run(ended.parent, succeeded=True)
    for name in ("opened", "ended", "never there"):
        failure.close_all(DagRun(f"retrain_{ANIMAL}", name), "killed", world.settings)
    assert status(opened, opened.parent) == ("FAILED", "killed")
    assert status(opened, left)[0] == "FAILED"
    assert status(ended, ended.parent) == ("FINISHED", "")


def test_folds_and_trials_of_stages_are_closed_whether_or_not_the_stage_is(world: World) -> None:
    job, other = world.job("folds"), world.job("another")
    client = job.tracker.client
    left = []
    for parent in (killed_stage(job), killed_stage(other)):
        experiment = client.get_run(parent).info.experiment_id
        fold = client.create_run(experiment, tags={"mlflow.parentRunId": parent}, run_name="fold 3").info.run_id
        left.append(fold)
    client.set_terminated(client.get_run(left[0]).data.tags["mlflow.parentRunId"], "FINISHED")
    failure.close_all(DagRun(f"retrain_{ANIMAL}", "folds"), "killed", world.settings)
    assert status(job, left[0])[0] == "FAILED"
    assert status(job, left[1])[0] == "RUNNING", "that one is of another DAG run"


def test_a_dag_run_without_runs_has_nothing_to_note(world: World) -> None:
    assert failure.note(DagRun("retrain_fox", "none"), "prepare", "DataError: x", world.settings) == ""
