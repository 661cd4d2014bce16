"""What the demo asks of Airflow, and what it says of it; `tests/e2e/test_demo.py` runs it as a whole."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from world import make_settings

from ml import demo, follower, stack
from ml.settings import Settings

TABLES = """
[fox]
positives = ["fox/*"]
negatives = ["*/*"]
require_approval = true

[tiger]
positives = ["tiger/*"]
negatives = ["*/*"]
"""
DAGS = ("retrain_fox", "retrain_tiger", "score_images", "validate_images")


class Airflow:
    """An Airflow of DAGs with one task, which succeeds; those in `asking` are asked about once before.

    A retraining that is on when the photos are validated starts by itself.
    """

    def __init__(self, asking: tuple[str, ...] = ()) -> None:
        self.on: set[str] = set()
        self.runs: dict[str, list[dict[str, Any]]] = {dag: [] for dag in DAGS}
        self.asking = list(asking)

    def get(self, path: str) -> Any:
        return {"is_paused": path.split("/")[1] not in self.on}

    def patch(self, path: str, body: dict[str, Any]) -> None:
        (self.on.discard if body["is_paused"] else self.on.add)(path.split("/")[1])

    def post(self, path: str, body: dict[str, Any]) -> None:
        dag = path.split("/")[1]
        self._start(dag, body["conf"])
        if dag == demo.VALIDATE:
            for other in sorted(self.on - {dag}):
                self._start(other, None)

    def all(self, path: str, key: str, **_: Any) -> list[dict[str, Any]]:
        match path.split("/"):
            case ["importErrors"]:
                return []
            case ["dags"]:
                return [{"dag_id": dag} for dag in DAGS]
            case ["dags", dag, "dagRuns"]:
                return self.runs[dag]
            case ["dags", dag, "dagRuns", run, "taskInstances"]:
                return [self._task(dag, run)]
        raise AssertionError(path)

    def _start(self, dag: str, conf: dict[str, Any] | None) -> None:
        run = {"dag_id": dag, "dag_run_id": f"manual__{dag}+00:00", "conf": conf}
        self.runs[dag].append(run | {"state": "running" if dag in self.asking else "success"})

    def _task(self, dag: str, run: str) -> dict[str, Any]:
        state = "success"
        if dag in self.asking:
            self.asking.remove(dag)
            self.runs[dag][0]["state"], state = "success", "awaiting_input"
        task = {"id": dag, "dag_id": dag, "dag_run_id": run, "task_id": "approve", "try_number": 1, "map_index": -1}
        return task | {"state": state}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "animals.toml").write_text(TABLES)
    return make_settings(tmp_path, tmp_path).model_copy(update={"animals": tmp_path / "animals.toml"})


def run_all(airflow: Airflow, settings: Settings, monkeypatch: pytest.MonkeyPatch, preset: str = "") -> str:
    """Run the demo's DAGs, and return what it says."""
    monkeypatch.setattr(stack, "client", lambda _: airflow)
    monkeypatch.setattr(demo, "GRACE", 0.0)
    monkeypatch.setattr(follower.time, "sleep", lambda _: None)
    said = io.StringIO()
    demo._run_all(settings, Console(file=said, width=80), preset)
    return said.getvalue()


@pytest.mark.parametrize("preset", ["", "quick"])
def test_a_demo_asks_nobody_and_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    airflow, wanted = Airflow(), {"preset": preset} if preset else {}
    said = run_all(airflow, settings, monkeypatch, preset)
    confs = {dag: [run["conf"] for run in runs] for dag, runs in airflow.runs.items()}
    assert confs == {
        "validate_images": [{}],
        "retrain_fox": [wanted | {"require_approval": False}],
        "retrain_tiger": [wanted or None],  # by itself, if it is as it would be
        "score_images": [{}],
    }
    assert "fox: a demo waits for nobody" in said
    assert "tiger:" not in said
    assert not airflow.on


def test_where_a_run_asks_all_the_same_it_says_where_to_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run_all(Airflow(asking=("retrain_tiger",)), settings, monkeypatch)
    page = f"{settings.airflow_link}/dags/retrain_tiger/runs/manual__retrain_tiger%2B00%3A00"
    assert f"retrain_tiger asks a person and waits. Answer: {page}/tasks/approve/required_actions" in said
