"""A real MLflow server with one tiny animal in it, for the pages that read it."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

# Read when airflow is first imported, which is before any fixture.
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="menagerie-airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"

from world import ANIMAL, make_settings

from ml.data.sample import draw_samples
from ml.params import RetrainParams, ValidateParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages import prepare, validate
from ml.stages.job import Job

BACKBONE = "EfficientNetLite0"


@contextmanager
def mlflow_server(home: Path) -> Iterator[str]:
    """Serve the store `home/mlflow.db` during the block, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")),
    ]
    with open(home / "mlflow.log", "wb") as log:
        server = subprocess.Popen(
            command, env=os.environ | quiet, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, (home / "mlflow.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.fixture
def serve_mlflow() -> Callable[[Path], AbstractContextManager[str]]:
    """`serve_mlflow(home)` serves the store in `home` during a block, and yields its address."""
    return mlflow_server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return settings whose MLflow runs, and is empty."""
    home = tmp_path_factory.mktemp("home")
    with mlflow_server(home) as uri:
        yield make_settings(home, home / "drawings").model_copy(update={"mlflow_uri": uri})


@pytest.fixture(scope="session")
def validated(served: Settings) -> StageResult:
    """Draw photos, and have them accepted."""
    draw_samples(served.photos, per_class=15, others=4)
    params, dag_run = ValidateParams(), DagRun("validate_images", "manual__first")
    result = validate.run(ANIMAL, validate.scan(params, served), params, served, dag_run)
    validate.publish(result, served)
    return result


@pytest.fixture(scope="session")
def job(served: Settings, validated: StageResult) -> Job:
    params = RetrainParams.read({"map_photos": 60, "backbones": [BACKBONE]})
    return prepare.run(ANIMAL, params, served, DagRun(f"retrain_{ANIMAL}", "manual__2026-11-22T10:00:00+00:00"))


@pytest.fixture(scope="session")
def results(job: Job) -> dict[str, StageResult]:
    """Retrain: the stages that the page reads, by name, one after the other as in the DAG."""
    from ml.stages import compare, decide, explore, promote, report, transfer

    done = {"explore": explore.run(job), "transfer": transfer.run(job, BACKBONE)}
    done["compare"] = compare.run(job, [done["transfer"]])
    done["decide"] = decide.run(job, done["compare"])
    done["promote"] = promote.run(job, done["compare"], done["decide"])
    report.run(job, list(done.values()))
    job.tracker.close_run(job.parent, True)  # the stages that were left out are of no matter here
    return done
