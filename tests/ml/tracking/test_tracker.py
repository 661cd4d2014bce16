import csv
import io
import socket
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import fingerprint, progress
from ml.errors import LostError, NoRetryError, ServiceError
from ml.progress import Progress
from ml.results import Candidate, DagRun, StageResult
from ml.tracking import CHAMPION, Tracker, work_key

RUN = DagRun("retrain_fox", "manual__1", "http://airflow/run")


def test_a_server_that_is_down_is_named_and_worth_another_try() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ServiceError, match=rf"{uri}.*make up.*MLFLOW_TRACKING_URI") as raised:
            Tracker(uri)
    assert not isinstance(raised.value, NoRetryError)


def test_a_dag_run_that_is_tried_again_finds_its_run(tracker: Tracker) -> None:
    first = tracker.open_run("fox", RUN, "digest", {"seed": 0})
    tracker.close_run(first, False, "a worker died")
    assert tracker.open_run("fox", RUN, "digest", {"seed": 0}) == first
    assert tracker.client.get_run(first).info.status == "RUNNING"
    assert tracker.open_run("fox", DagRun("retrain_fox", "manual__2"), "digest", {}) != first


def test_only_a_finished_stage_is_found_again(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    with pytest.raises(ZeroDivisionError), tracker.stage("fox", parent, "baseline", "key") as run:
        raise ZeroDivisionError("by zero")
    assert tracker.find("fox", "baseline", "key") is None
    failed = tracker.client.get_run(run.id)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["menagerie.reason"] == "ZeroDivisionError: by zero"

    candidate = Candidate("baseline", 12.5, 0.7, {"seed": 0, "padding": None})
    with tracker.stage("fox", parent, "baseline", "key") as again:
        result = StageResult("baseline", "fox", "digest", again.id, {"cv_ece": 0.1}, (candidate,), "70 %")
        tracker.keep_result(result)
    assert again.id == run.id
    found = tracker.find("fox", "baseline", "key")
    assert found is not None
    assert found.reused
    assert found.candidates == (candidate,)
    assert tracker.find("fox", "baseline", "other") is None


def test_a_try_that_goes_on_drops_the_children_of_the_one_that_died(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    with pytest.raises(KeyboardInterrupt), tracker.stage("fox", parent, "baseline", "key") as run:
        run.child("fold 0", {"accuracy": 0.5})
        raise KeyboardInterrupt
    with tracker.stage("fox", parent, "baseline", "key") as run:
        run.child("fold 0", {"accuracy": 0.6}, {"loss": [1.0, 0.5]})
    experiment = tracker.client.get_run(parent).info.experiment_id
    children = tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.id}'")
    assert [child.data.metrics["accuracy"] for child in children] == [0.6]
    history = tracker.client.get_metric_history(children[0].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5)]


def test_more_numbers_than_one_call_takes_are_all_kept(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    with tracker.stage("fox", parent, "baseline", "key") as run:
        run.child("fold 0", {}, {"loss": [float(step) for step in range(2500)]})
    experiment = tracker.client.get_run(parent).info.experiment_id
    (child,) = tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.id}'")
    assert len(tracker.client.get_metric_history(child.info.run_id, "loss")) == 2500


def test_names_in_a_table_are_no_formulas_and_come_back_as_they_were(tracker: Tracker) -> None:
    names = [
        "=1+1.jpg",
        "+x",
        "-x",
        "@SUM(1)",
        "\tx",
        "./=x",
        "././@x",
        "./x",
        "NA",
        "007",
        "1e5",
        "True",
        'a,"b"\n=c',
        "狐",
    ]
    table = pd.DataFrame({"path": names, "class": names[::-1], "probability": np.linspace(-1, 1, len(names))})
    parent = tracker.open_run("fox", DagRun("retrain_fox", "manual__names"), "0" * 16, {})
    with tracker.stage("fox", parent, "floor", "key") as stage:
        stage.table("out_of_fold", table)
    pd.testing.assert_frame_equal(tracker.read_table(stage.id, "out_of_fold"), table, check_dtype=False)
    written = Path(tracker.client.download_artifacts(stage.id, "tables/out_of_fold.csv")).read_text()
    cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row[:2]]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]


def test_links_lead_to_the_pages_that_a_browser_finds(tracker: Tracker) -> None:
    tracker.browser_uri = "https://mlflow.example.org"
    parent = tracker.open_run("fox", DagRun("retrain_fox", "manual__links"), "0" * 16, {})
    assert tracker.run_url(parent).startswith("https://mlflow.example.org/#/experiments/")


def test_without_a_champion_there_is_none(tracker: Tracker) -> None:
    assert tracker.champion("fox-classifier") is None
    tracker.client.create_registered_model("fox-classifier")
    assert tracker.champion("fox-classifier") is None
    assert CHAMPION == "champion"


def test_the_key_of_work_depends_on_dataset_settings_and_code_and_on_no_order() -> None:
    key = work_key("baseline", "digest", {"seed": 0, "epochs": 3}, "code")
    assert key == work_key("baseline", "digest", {"epochs": 3, "seed": 0}, "code")
    others = [("tune", "digest", "code"), ("baseline", "x", "code"), ("baseline", "digest", "other code")]
    assert len({key, *(work_key(stage, digest, {"seed": 0, "epochs": 3}, code) for stage, digest, code in others)}) == 4


def test_a_stage_leads_back_to_its_dag_run_and_tells_how_far_it_is(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    with tracker.stage("fox", parent, "tune", "key") as run:
        progress.tell("trial", 1, 4, score=0.5)
        for _ in range(100):
            if told := tracker.client.get_run(run.id).data.tags.get("menagerie.progress"):
                break
            time.sleep(0.05)
    tags = tracker.client.get_run(run.id).data.tags
    assert RUN.url in tags["mlflow.note.content"]
    assert "menagerie.progress" not in tags
    heard = Progress.from_json(told or "")
    assert heard is not None
    assert (heard.text, heard.share) == ("trial 1 of 4: score 0.5", 0.25)


def test_a_stage_ends_well_though_its_progress_cannot_be_told(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("MLflow is gone")

    parent = tracker.open_run("fox", RUN, "digest", {})
    with monkeypatch.context() as patched, tracker.stage("fox", parent, "tune", "key") as run:
        patched.setattr(run, "tag", refuse)
        progress.tell("trial", 1, 4)
        time.sleep(0.1)
    assert tracker.client.get_run(run.id).info.status == "FINISHED"


def test_a_run_tells_what_code_and_libraries_made_it(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    with tracker.stage("fox", parent, "floor", "key", "ml.stages.floor") as run:
        pass
    whole, part = (tracker.client.get_run(run_id).data.tags for run_id in (parent, run.id))
    assert whole["menagerie.code"] == fingerprint.of("ml.stages")
    assert part["menagerie.code"] == fingerprint.of("ml.stages.floor")
    assert f"scikit-learn {version('scikit-learn')}" in part["menagerie.libraries"]
    commit = fingerprint.commit()
    assert part.get("mlflow.source.git.commit") == (commit[0] if commit else None)


def keep(tracker: Tracker) -> str:
    """Leave a finished stage with a table, and return its run."""
    parent = tracker.open_run("fox", RUN, "digest", {})
    with tracker.stage("fox", parent, "baseline", "key") as run:
        run.table("out_of_fold", pd.DataFrame({"probability": [0.25, 0.75]}))
        tracker.keep_result(StageResult("baseline", "fox", "digest", run.id))
    return run.id


def artifact(tracker: Tracker, run_id: str, path: str) -> Path:
    return Path(tracker.client.get_run(run_id).info.artifact_uri.removeprefix("file://"), path)


@pytest.mark.parametrize("path", ["result.json", "tables/out_of_fold.csv"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_result_whose_files_are_gone_or_cut_is_computed_again_with_a_warning(
    tracker: Tracker, path: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = keep(tracker)
    assert tracker.find("fox", "baseline", "key")
    file = artifact(tracker, run_id, path)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 7 if damage == "cut" else 0])
    assert tracker.find("fox", "baseline", "key") is None
    assert run_id in caplog.text


@pytest.mark.parametrize("kept", ["{}", "[]", '{"result": {"stage": "baseline"}, "files": {}}', '{"stage": "x"}'])
def test_a_result_of_another_layout_is_computed_again(tracker: Tracker, kept: str) -> None:
    run_id = keep(tracker)
    artifact(tracker, run_id, "result.json").write_text(kept)
    assert tracker.find("fox", "baseline", "key") is None


def test_a_lost_table_is_told_with_its_run(tracker: Tracker) -> None:
    run_id = keep(tracker)
    artifact(tracker, run_id, "tables/out_of_fold.csv").unlink()
    with pytest.raises(LostError, match=rf"{run_id}.*out_of_fold"):
        tracker.read_table(run_id, "out_of_fold")
    with pytest.raises(LostError, match="out_of_fold"):
        tracker.read_table("0" * 32, "out_of_fold")


def test_a_deleted_experiment_is_restored_with_a_warning(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    run_id = keep(tracker)
    tracker.client.delete_experiment(tracker.client.get_run(run_id).info.experiment_id)
    assert tracker.open_run("fox", DagRun("retrain_fox", "manual__2"), "digest", {})
    assert "The experiment fox was deleted" in caplog.text
    assert tracker.find("fox", "baseline", "key")


def test_a_run_goes_on_without_the_link_to_a_validation_that_is_gone(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {}, validation_run="0" * 32)
    assert RUN.url in tracker.client.get_run(parent).data.tags["mlflow.note.content"]


def test_a_run_deleted_while_its_dag_run_goes_on_is_restored(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", RUN, "digest", {})
    tracker.client.delete_run(parent)
    with tracker.stage("fox", parent, "baseline", "key") as run:
        pass
    tracker.link(parent, StageResult("baseline", "fox", "digest", run.id))
    assert tracker.linked(parent, "baseline") == run.id
