"""A scoring in Airflow, by `dag.test()`: what is found, and the validation that is asked for where photos drift."""

from collections.abc import Callable
from pathlib import Path

import pytest
from in_airflow import make_airflow, results_of
from world import ANIMAL, make_settings

from ml.data.sample import draw_samples
from ml.models.baseline import build_baseline
from ml.params import RetrainParams, ValidateParams
from ml.results import DagRun
from ml.stages import prepare, validate
from ml.tracking import CHAMPION

PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
sys.path.append(sys.argv[1])  # as the DAG processor does
bag = DagBag(sys.argv[1])
for dag_id, conf in json.loads(sys.argv[2]):
    run = bag.dags[dag_id].test(run_conf=conf)
    print("RESULT", json.dumps({i.task_id: str(i.state) for i in run.get_task_instances()}))
from airflow.models import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select
with create_session() as session:
    runs = session.scalars(select(DagRun).where(DagRun.dag_id == "validate_images"))
    print("RESULT", json.dumps([run.note for run in runs]))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with drawings and a small champion."""
    monkeypatch.chdir(tmp_path)
    draw_samples(tmp_path / "drawings", per_class=15, others=4)
    settings, params = make_settings(tmp_path, tmp_path / "drawings"), ValidateParams()
    validate.publish(
        validate.run(ANIMAL, validate.scan(params, settings), params, settings, DagRun("validate_images", "v")),
        settings,
    )
    job = prepare.run(ANIMAL, RetrainParams(), settings, DagRun("retrain", "r"))
    with job.tracker.stage(ANIMAL, job.parent, "promote", "key") as stage:
        tags = {"padding": "null", "complexity": "1", "dataset": job.digest, "dag_run": job.parent}
        made = stage.register(build_baseline(24), job.classifier_name, tags, "…")
    job.tracker.set_alias(made, CHAMPION)
    return tmp_path


def test_validation_follows_a_drift_if_asked_for(home: Path, fill: Callable[[Path, dict[str, int]], Path]) -> None:
    clouds = str(fill(home / "clouds", {".": 30}))
    runs = [
        ("validate_images", {}),  # makes it known to Airflow
        ("score_images", {"photos": "", "validate_on_drift": True}),
        ("score_images", {"photos": clouds, "validate_on_drift": False}),
        ("score_images", {"photos": clouds, "validate_on_drift": True}),
    ]
    _, alike, unasked, asked, notes = results_of(PROGRAM, runs, make_airflow(home))
    assert alike == {"score": "success", "drifted": "success", "validate": "skipped"}
    assert unasked == alike
    assert asked == {"score": "success", "drifted": "success", "validate": "success"}
    assert [note for note in notes if note] == [
        "The photos that score_images has scored have drifted from the training photos."
    ]
