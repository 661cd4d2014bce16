from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from fastapi import FastAPI
from fastapi.testclient import TestClient
from menagerie import api, links
from world import ANIMAL

from ml import mlflow_pages
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages import validate
from ml.stages.job import Job

Results = dict[str, StageResult]
RUN = "manual__2026-11-22T10:00:00+00:00"
"""What the tests' retraining is called."""
DAG = f"retrain_{ANIMAL}"


@pytest.fixture(scope="module")
def client(served: Settings, results: Results) -> Iterator[TestClient]:
    page, airflow = api.make_app(served), FastAPI()
    page.dependency_overrides[api.logged_in] = lambda: None
    airflow.mount("/menagerie", page)
    with TestClient(airflow, follow_redirects=False) as client:
        yield client


def press(client: TestClient, button: links.TaskLink, task: str, dag: str = DAG, run: str = RUN) -> str:
    """Return where a task's button leads; in MLflow, to its training pages."""
    address = button.get_link(None, ti_key=TaskInstanceKey(dag, task, run))
    answer = client.get(address)
    assert answer.status_code == 307, answer.text
    address = answer.headers["location"]
    assert "/#/" not in address or address.endswith(mlflow_pages.TRAINING)
    return address.removesuffix(mlflow_pages.TRAINING)


@pytest.mark.parametrize("task", ["explore", "compare", "promote"])
def test_a_task_leads_to_the_run_of_its_stage(client: TestClient, results: Results, task: str) -> None:
    assert press(client, links.RunLink(), task).endswith(f"/runs/{results[task].run_id}")


@pytest.mark.parametrize("task", ["prepare", "announce", "report"])
def test_a_task_without_a_stage_leads_to_the_run_of_its_dag_run(client: TestClient, job: Job, task: str) -> None:
    assert press(client, links.RunLink(), task).endswith(f"/runs/{job.parent}")


def test_a_mapped_task_leads_to_its_own_run(client: TestClient, job: Job, results: Results) -> None:
    other = StageResult("transfer Another", ANIMAL, job.digest, results["explore"].run_id)
    job.tracker.link(job.parent, other)
    asked = {"dag": DAG, "run": RUN, "task": "transfer"}
    ends = {
        instance: client.get("/menagerie/task/run", params=asked | {"instance": instance})
        .headers["location"]
        .split("/runs/")[1][:32]
        for instance in ("EfficientNetLite0", "Another", "")
    }
    job.tracker.client.delete_tag(job.parent, "menagerie.stage.transfer Another")
    assert ends == {
        "EfficientNetLite0": results["transfer"].run_id,
        "Another": other.run_id,
        "": job.parent,  # it could be either
    }


def test_a_task_that_runs_or_failed_has_its_run_too(client: TestClient, job: Job) -> None:
    parent = job.tracker.open_run(ANIMAL, DagRun(DAG, "manual__open"), job.digest, {})
    with pytest.raises(ZeroDivisionError), job.tracker.stage(ANIMAL, parent, "finetune Lite", "open") as stage:
        assert press(client, links.RunLink(), "finetune", run="manual__open").endswith(stage.id)
        raise ZeroDivisionError
    assert press(client, links.RunLink(), "finetune", run="manual__open").endswith(stage.id)
    job.tracker.client.delete_run(parent)


def test_the_report_is_the_dag_runs(client: TestClient, job: Job) -> None:
    location = press(client, links.ReportLink(), "baseline")
    assert location == f"../report/{job.parent}"
    assert client.get(f"/menagerie/report/{job.parent}").status_code == 200


def test_data_docs_are_those_of_the_photos(client: TestClient, job: Job, validated: StageResult) -> None:
    (stage,) = job.tracker._search(job.tracker._experiment(ANIMAL), {"stage": "validate"}, validated.run_id)
    end = f"/runs/{stage.info.run_id}/artifacts/data_docs"
    assert press(client, links.DocsLink(), "tune").endswith(end)
    assert press(client, links.DocsLink(), f"{ANIMAL}.publish", "validate_images", "manual__first").endswith(end)
    pages = job.tracker.client.list_artifacts(stage.info.run_id, "data_docs")
    assert {page.path for page in pages} == {"data_docs/dataset-dataset.html", "data_docs/photos-photos.html"}


def test_photos_that_were_nothing_new_have_the_data_docs_of_when_they_were(
    client: TestClient, job: Job, served: Settings, validated: StageResult
) -> None:
    dag_run, params = DagRun("validate_images", "manual__unchanged"), ValidateParams()
    scanned = validate.scan(params, served, dag_run)
    assert validate.run(ANIMAL, scanned, params, served, dag_run).run_id == ""
    (stage,) = job.tracker._search(job.tracker._experiment(ANIMAL), {"stage": "validate"}, validated.run_id)
    assert press(client, links.DocsLink(), f"{ANIMAL}.publish", "validate_images", dag_run.run_id).endswith(
        f"/runs/{stage.info.run_id}/artifacts/data_docs"
    )
    (scan,) = job.tracker.runs_of(dag_run)
    assert press(client, links.RunLink(), "scan", "validate_images", dag_run.run_id).endswith(scan.info.run_id)


def test_a_task_of_another_animal_or_run_is_not_mixed_up(client: TestClient) -> None:
    for task, run in (("fox.validate", "manual__first"), ("prepare", "manual__never")):
        dag = "validate_images" if "." in task else DAG
        answer = client.get("/menagerie/task/run", params={"dag": dag, "run": run, "task": task})
        assert answer.status_code == 404
        assert "MLflow has no run of this task" in answer.text


@pytest.mark.parametrize("value", ["x' or tags.`a` != 'x", "`", "x;y", "a\nb"])
def test_nothing_can_be_smuggled_into_a_filter(client: TestClient, value: str) -> None:
    for name in ("dag", "run", "task", "instance"):
        asked = {"dag": DAG, "run": RUN, "task": "explore"} | {name: value}
        assert client.get("/menagerie/task/run", params=asked).status_code == 422
    assert (
        client.get("/menagerie/task/elsewhere", params={"dag": DAG, "run": RUN, "task": "explore"}).status_code == 422
    )


def test_a_button_says_all_of_its_task_and_hides_where_it_leads_nowhere() -> None:
    key = TaskInstanceKey("retrain_fox", "group.tune", RUN)
    address = urlsplit(links.RunLink().get_link(None, ti_key=key))
    assert address.path == "/menagerie/task/run"
    said = dict(parse_qsl(address.query, keep_blank_values=True))
    assert said == {"dag": "retrain_fox", "run": RUN, "task": "group.tune", "instance": ""}
    for dag, leads in (("retrain_fox", True), ("gan_fox", True), ("validate_images", False), ("score_images", False)):
        assert bool(links.ReportLink().get_link(None, ti_key=key._replace(dag_id=dag))) == leads
    assert links.DocsLink().get_link(None, ti_key=key._replace(dag_id="score_images")) == ""


def test_the_buttons_work_without_mlflow(served: Settings) -> None:
    page = api.make_app(served.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"}))
    page.dependency_overrides[api.logged_in] = lambda: None
    with TestClient(page) as client:
        answer = client.get("/task/run", params={"dag": DAG, "run": RUN, "task": "explore"})
    assert answer.status_code == 503
    assert "make up" in answer.text
