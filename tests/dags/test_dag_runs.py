"""Whole DAG runs in one process, by `dag.test()`: tasks, XComs, mapping, skips and teardown, without a scheduler."""

from pathlib import Path
from typing import Any

import pytest
from in_airflow import make_airflow, results_of
from listeners import mailbox, webhook

from ml.data.sample import draw_samples
from ml.tracking import Tracker

ANIMALS = '[elephant]\npositives = ["elephant/*"]\nnegatives = ["*/*"]\ngan = true\n'
PROGRAM = """
import json, sys, threading, time, traceback
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
from airflow.dag_processing.dagbag import DagBag
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select
sys.path.append(sys.argv[1])  # as the DAG processor does
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors

def approve():
    # What the API server does when a person presses the button.
    user = SimpleAuthManagerUser(username="ada", role="admin")
    said = UpdateHITLDetailPayload(chosen_options=["Approve"], params_input={"note": "looks fine"})
    while True:
        time.sleep(1)
        try:
            with create_session() as session:
                for asked in session.scalars(select(TaskInstance).where(TaskInstance.state == "awaiting_input")).all():
                    body = session.get(HITLDetail, asked.id).body
                    update_hitl_detail(asked.dag_id, asked.run_id, asked.task_id, said, user, session)
                    session.commit()
                    questions.append(body)
        except Exception:
            traceback.print_exc()  # SQLite may be locked: once more

questions = []
threading.Thread(target=approve, daemon=True).start()
for dag_id, conf in json.loads(sys.argv[2]):
    run = bag.dags[dag_id].test(run_conf=conf)
    states = {}
    for instance in run.get_task_instances():
        states.setdefault(instance.task_id, []).append(str(instance.state))
    print("RESULT", json.dumps({"state": str(run.state), "tasks": states}))
for asked in questions:
    print("RESULT", json.dumps({"asked": asked}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    draw_samples(home / "drawings", per_class=15, others=4)
    (home / "animals.toml").write_text(ANIMALS)
    return make_airflow(home, MENAGERIE_ANIMALS=str(home / "animals.toml"))


def run(environment: dict[str, str], *dags: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Run DAGs one after the other; return the state of each run, and of its tasks, then what was asked meanwhile."""
    return results_of(PROGRAM, dags, environment)


def decision(environment: dict[str, str]) -> str:
    """Return what the last promotion says of itself in MLflow."""
    tracker = Tracker(environment["MLFLOW_TRACKING_URI"])
    made = tracker.client.search_model_versions("name = 'elephant-classifier'")
    return tracker.client.get_run(made[0].run_id).data.tags["menagerie.decision"]


@pytest.mark.timeout(1800)  # three DAGs, six runs of them, one process
def test_from_photos_to_a_champion_and_again(environment: dict[str, str]) -> None:
    one_of_each = {"baseline_epochs": 1, "map_photos": 60, "tune_trials": 1, "tune_epochs": 1, "augment_copies": [2]}
    one_of_each |= {"class_epochs": 1}
    everything = one_of_each | {"backbones": ["EfficientNetLite0", "EfficientNetLite1"], "finetune_epochs": 1}
    # Within one process Airflow keeps the values of the run before: what is to be off is said.
    off = {"tune_mode": "off", "finetune_epochs": 0, "backbones": ["EfficientNetLite0"]}
    quick = one_of_each | off | {"preset": "quick"}
    validated, unchanged, trained, again, less, drawn, question = run(
        environment,
        ("validate_images", {"folds": 3}),
        ("validate_images", {"folds": 3}),
        ("retrain_elephant", everything | {"require_approval": True}),
        ("retrain_elephant", everything | {"require_approval": True}),
        ("retrain_elephant", quick),
        ("gan_elephant", {"recipe": "dcgan", "size": 32, "steps": 2, "pictures": 12}),
    )
    assert validated == {
        "state": "success",
        "tasks": {"scan": ["success"], "elephant.validate": ["success"], "elephant.publish": ["success"]},
    }
    assert unchanged["state"] == "success"
    assert unchanged["tasks"]["elephant.publish"] == ["skipped"]
    assert trained["state"] == "success"
    assert {state for states in trained["tasks"].values() for state in states} == {"success"}
    assert len(trained["tasks"]["transfer"]) == 2
    assert "| model | none yet |" in question["asked"]
    assert decision(environment).startswith("Promoted: there was no champion")
    assert "Approved by ada" in decision(environment)
    assert "“looks fine”" in decision(environment)
    assert again["state"] == "success"
    assert {state for states in again["tasks"].values() for state in states} == {"skipped"}
    assert less["state"] == "success"
    skipped = {task for task, states in less["tasks"].items() if states == ["skipped"]}
    from_scratch = {"chosen_searches", "search", "tune", "regularise", "chosen_copies", "augment", "classes"}
    assert skipped == from_scratch | {"finetune", "average", "approve", "announce"}
    steps = ("prepare", "crops", "gan", "score", "helps", "publish", "report")
    assert drawn == {"state": "success", "tasks": {task: ["success"] for task in steps}}


def test_bad_photos_fail_at_once_and_a_retraining_without_a_dataset_too(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment = environment | {"MENAGERIE_HOME": str(tmp_path), "MENAGERIE_PHOTOS": str(tmp_path / "nowhere")}
    with webhook() as (url, posted), mailbox() as (server, mails):
        told = {"MENAGERIE_NOTIFY": f"{url} mailto:keeper@example.org", "MENAGERIE_SMTP": server}
        scanned, trained = run(environment | told, ("validate_images", {}), ("retrain_elephant", {}))
    assert scanned["state"] == "failed"
    assert scanned["tasks"]["scan"] == ["failed"]
    assert trained["state"] == "failed"
    assert trained["tasks"]["prepare"] == ["failed"]
    assert trained["tasks"]["report"] == ["skipped"]
    # Once each, in the error's own words.
    assert [(each["dag"], each["task"]) for each in posted] == [
        ("validate_images", "scan"),
        ("retrain_elephant", "prepare"),
    ]
    assert posted[0]["reason"].startswith("DataError: ")
    assert str(tmp_path / "nowhere") in posted[0]["reason"]
    assert "Run the DAG validate_images first" in posted[1]["text"]
    assert "/tasks/prepare" in posted[1]["links"]["Its log"]
    assert [mail["Subject"] for mail in mails] == ["validate_images: scan failed", "retrain_elephant: prepare failed"]
