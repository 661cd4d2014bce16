"""The real stack, started and killed in every way. It takes ports of its own, and leaves none of its processes."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from installation import free_port, wait

from ml import environment, mlflow_server, settings, stack, supervisor

DAGS = """
from airflow.sdk import Asset, dag, task

@dag(schedule=None)
def validate_images():
    @task(outlets=[Asset("dataset://fox")])
    def publish() -> None:
        print("published")

    publish()

validate_images()

def retrain(animal: str):
    @dag(dag_id=f"retrain_{animal}", schedule=[Asset(f"dataset://{animal}")])
    def retrain():
        @task
        def promote() -> None:
            if animal == "tiger":
                raise ValueError("the tigers are gone")
            import os
            import httpx
            login = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
            mlflow = httpx.Client(base_url=os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/", auth=login)
            def post(path: str, **body: object) -> dict:
                return mlflow.post(path, json=body).raise_for_status().json()
            run = post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
            numbers = {"cv_accuracy_mean": 0.9, "cv_accuracy_low": 0.85, "cv_accuracy_high": 0.94, "n_photos": 120}
            metrics = [dict(key=key, value=value, timestamp=0, step=0) for key, value in numbers.items()]
            post("runs/log-batch", run_id=run, metrics=metrics)
            post("registered-models/create", name="fox-classifier")
            post("model-versions/create", name="fox-classifier", source=f"runs:/{run}/model", run_id=run)
            post("registered-models/alias", name="fox-classifier", alias="champion", version="1")

        promote()

    retrain()

retrain("fox")
retrain("tiger")
"""
ANIMALS = """
[fox]
positives = ["fox/*"]
negatives = ["*/*"]
"""


class Installation:
    """A home, two ports and a folder of DAGs, and the commands that use them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (folder / "dags").mkdir()
        (folder / "dags" / "tiny.py").write_text(DAGS)
        (folder / "animals.toml").write_text(ANIMALS)
        (folder / "photos").mkdir()
        self.photos = folder / "photos"
        self.airflow_port, self.mlflow_port = free_port(), free_port()
        self.variables = {name: value for name, value in os.environ.items() if "MLFLOW" not in name} | {
            "MENAGERIE_HOME": str(self.home),
            "MENAGERIE_ANIMALS": str(folder / "animals.toml"),
            "MENAGERIE_DAGS": str(folder / "dags"),
            "MENAGERIE_AIRFLOW_PORT": str(self.airflow_port),
            "MENAGERIE_MLFLOW_PORT": str(self.mlflow_port),
            "MENAGERIE_PARALLELISM": "2",
        }

    def start(self, *command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "ml.cli", *command],
            env=self.variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    @property
    def session(self) -> int:
        note = supervisor.running(self.home / "run" / "stack.lock")
        return int(note["pid"]) if note else 0

    def processes(self, name: str) -> list[int]:
        """Return the processes of the running session whose command line has `name`."""
        return [pid for pid in supervisor.members(self.session) if name in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    # Tests that run in the background of a shell ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made = Installation(tmp_path)
    yield made
    signal.signal(signal.SIGINT, before)
    if session := made.session:
        supervisor.end_session(session, grace=0.0)
    assert made.session == 0


@pytest.mark.parametrize(
    ("what", "variable"), [("Airflow", "MENAGERIE_AIRFLOW_PORT"), ("MLflow", "MENAGERIE_MLFLOW_PORT")]
)
def test_a_taken_port_is_named_with_the_variable_that_chooses_another(
    installation: Installation, what: str, variable: str
) -> None:
    with socket.socket() as other:
        port = int(installation.variables[variable])
        other.bind(("127.0.0.1", port))
        other.listen()
        status, output = installation.run("up")
    assert status == 1
    assert f"Port {port} of 127.0.0.1, for {what}, is taken" in output
    assert f"{variable}={port + 1}" in output
    assert installation.session == 0


def test_down_says_that_nothing_runs(installation: Installation) -> None:
    assert installation.run("down") == (0, "Nothing was running.\n")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:9/", "Expected an MLflow server at http://127.0.0.1:9, which MLFLOW_TRACKING_URI names"),
        ("sqlite:///mlflow.db", "MLFLOW_TRACKING_URI must be the address of an MLflow server"),
    ],
)
def test_another_mlflow_that_does_not_answer_is_not_waited_for(
    installation: Installation, uri: str, reason: str
) -> None:
    installation.variables["MLFLOW_TRACKING_URI"] = uri
    status, output = installation.run("up")
    assert status in (1, 2)
    assert reason in output
    assert "Traceback" not in output
    assert installation.session == 0


def test_another_mlflow_that_refuses_the_login_is_named_before_anything_starts(installation: Installation) -> None:
    class Locked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Locked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        installation.variables["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{server.server_port}"
        status, output = installation.run("up")
        server.shutdown()
    assert status == 1
    assert f"MLflow is at http://127.0.0.1:{server.server_port}, as MLFLOW_TRACKING_URI says." in output
    assert "refuses the login (status 401). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in output
    assert installation.session == 0


def test_databases_are_migrated_unless_they_are_as_the_last_start_left_them(installation: Installation) -> None:
    chosen = settings.read(installation.variables)

    def migrations() -> set[str]:
        return set(stack._plan(chosen).first)

    for database in (environment.database(chosen), mlflow_server.database(chosen)):
        database.parent.mkdir(parents=True)
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(
                "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES (2);"
            )
    assert migrations() == {"migrate", "migrate-mlflow"}
    stack._migrated(chosen).write_text(stack._schemas(chosen))
    assert migrations() == set()
    with closing(sqlite3.connect(mlflow_server.database(chosen))) as connection:  # as after a backup was restored
        connection.executescript("UPDATE alembic_version SET version_num = 1;")
    assert migrations() == {"migrate", "migrate-mlflow"}


def test_a_full_disk_is_named_and_nothing_is_left(installation: Installation) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    installation.home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", installation.home], check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        status, output = installation.run("up")
        assert status == 1
        assert "Traceback" not in output
        assert f"MB free for {installation.home}. Received: 0 MB" in output
    finally:
        subprocess.run(["umount", "--lazy", installation.home], check=True)


@pytest.mark.slow
def test_interrupted_while_starting_leaves_nothing(installation: Installation) -> None:
    up = installation.start("up")
    wait(lambda: installation.processes("mlflow"))
    session = installation.session
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=30)
    assert up.returncode == 130
    assert supervisor.members(session) == {}


@pytest.mark.slow
def test_a_part_that_dies_ends_the_start_and_is_named(installation: Installation) -> None:
    up = installation.start("up")
    wait(lambda: installation.processes("mlflow"))
    session = installation.session
    os.kill(installation.processes("mlflow")[0], signal.SIGKILL)
    output, _ = up.communicate(timeout=60)
    assert up.returncode == 1
    assert "mlflow ended unexpectedly (killed by SIGKILL)" in output
    assert supervisor.members(session) == {}
    assert "mlflow ended unexpectedly" in installation.run("down")[1]


@pytest.mark.slow
def test_in_the_foreground_it_stays_until_a_part_dies_or_a_signal_comes(installation: Installation) -> None:
    def up() -> tuple["subprocess.Popen[str]", int]:
        process = installation.start("up", "--foreground")
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        assert any(line == "Menagerie is up.\n" for line in lines)
        assert f"127.0.0.1:{installation.airflow_port} " in next(lines)
        assert process.poll() is None
        return process, installation.session

    process, session = up()
    os.kill(installation.processes("mlflow")[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ended by itself. mlflow ended unexpectedly (killed by SIGKILL)" in output
    assert supervisor.members(session) == {}

    process, session = up()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 0, output
    assert supervisor.members(session) == {}


@pytest.mark.slow
def test_a_demo_that_is_killed_leaves_nothing(installation: Installation) -> None:
    demo = installation.start("demo", "--photos", str(installation.photos))
    wait(lambda: installation.processes("airflow"))
    session = installation.session
    demo.kill()
    demo.communicate(timeout=30)
    wait(lambda: supervisor.members(session) == {}, seconds=30)


@pytest.mark.slow
def test_up_twice_then_killed_then_a_demo_of_which_a_dag_fails(installation: Installation) -> None:
    # What people set for other programs: it must not reach the stack.
    installation.variables |= {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https")}
    installation.variables |= {"ALL_PROXY": "socks4://127.0.0.1:9", "KERAS_BACKEND": "jax"}
    installation.variables |= {"MLFLOW_STATIC_PREFIX": "/mlflow", "MLFLOW_WORKSPACE": "mine", "GIT_DIR": "/nowhere"}
    installation.variables |= {"PYTHONPATH": str(installation.photos), "MLFLOW_TRACKING_USERNAME": "me"}
    installation.variables["MLFLOW_TRACKING_URI"] = f"http://localhost:{installation.mlflow_port}/"
    status, output = installation.run("up")
    assert status == 0, output
    assert (
        "Left out of the environment, as it is meant for other programs: ALL_PROXY, GIT_DIR, KERAS_BACKEND, MLF"
        in output
    )
    urls = [f"http://127.0.0.1:{port}" for port in (installation.airflow_port, installation.mlflow_port)]
    assert all(url in output for url in urls)
    login = {"username": "admin", "password": output.partition("password ")[2].split()[0]}
    token = httpx.post(f"{urls[0]}/auth/token", json=login).raise_for_status().json()["access_token"]
    pool = httpx.get(f"{urls[0]}/api/v2/pools/default_pool", headers={"Authorization": f"Bearer {token}"})
    assert pool.json()["slots"] == 2  # or tasks would begin in the order in which they were ready
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    for port in (installation.airflow_port, installation.mlflow_port):
        assert f" 0100007F:{port:04X} " in listening

    first = installation.session
    status, output = installation.run("up")
    assert (status, installation.session) == (0, first)
    assert output.startswith("Menagerie runs already.")
    assert urls[0] in output

    os.kill(first, signal.SIGKILL)
    wait(lambda: not supervisor.is_alive(first))
    assert supervisor.members(first)
    status, output = installation.run("demo", "--photos", str(installation.photos))
    assert status == 1
    assert supervisor.members(first) == {}
    assert "retrain_fox  promote  success" in output, output
    assert "ValueError: the tigers are gone" in output
    assert "retrain_tiger failed" in output
    assert installation.session == 0
