"""The stack's own MLflow server, really started: who it answers to, and what of an older one it goes on with."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import httpx
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from installation import free_port, wait
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

from ml import mlflow_server, settings
from ml.environment import environment
from ml.settings import Settings

API = "/api/2.0/mlflow/"


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return settings.read({"MENAGERIE_HOME": str(home), "MENAGERIE_MLFLOW_PORT": str(free_port())})


@pytest.fixture(scope="module")
def server(chosen: Settings) -> Iterator[httpx.Client]:
    """A client without a login, of a server whose database an older MLflow has left, with one experiment in it."""
    database = f"sqlite:///{mlflow_server.database(chosen)}"
    mlflow_server.database(chosen).parent.mkdir(parents=True)
    engine = sqlalchemy.create_engine(database)
    Base.metadata.create_all(engine)
    configuration = _get_alembic_config(database)
    scripts = ScriptDirectory.from_config(configuration)
    (head,) = scripts.get_heads()
    alembic.command.upgrade(configuration, str(scripts.get_revision(head).down_revision))
    with engine.begin() as connection:
        columns = "experiment_id, name, lifecycle_stage, artifact_location, creation_time, last_update_time"
        values = "7, 'owl', 'active', 'mlflow-artifacts:/7', 0, 0"
        connection.execute(sqlalchemy.text(f"INSERT INTO experiments ({columns}) VALUES ({values})"))
    variables = environment(chosen)
    subprocess.run(mlflow_server.migration(chosen), env=variables, check=True, capture_output=True)
    with (
        subprocess.Popen(mlflow_server.command(chosen), env=variables, start_new_session=True) as process,
        httpx.Client(base_url=chosen.mlflow_uri, timeout=30, trust_env=False) as http,
    ):
        try:
            wait(lambda: process.poll() is not None or healthy(http))
            yield http
        finally:
            os.killpg(process.pid, 9)


def healthy(http: httpx.Client) -> bool:
    try:
        return http.get("/health").is_success
    except httpx.HTTPError:
        return False


def test_what_an_older_version_kept_is_there(server: httpx.Client, chosen: Settings) -> None:
    answer = server.get(f"{API}experiments/get?experiment_id=7", auth=mlflow_server.login(chosen)).raise_for_status()
    assert answer.json()["experiment"]["name"] == "owl"


def test_nothing_is_read_or_written_without_the_login(server: httpx.Client, tmp_path: Path) -> None:
    """The experiment's artifacts would be files in a folder that runs what is put there, such as that of the DAGs."""
    attack = {"name": "evil", "artifact_location": str(tmp_path)}
    for login in (None, ("admin", "password1234"), ("admin", "")):
        assert server.post(f"{API}experiments/create", json=attack, auth=login).status_code == 401
        assert server.get(f"{API}experiments/search?max_results=5", auth=login).status_code == 401
        assert server.post("/graphql", json={"query": "{ test }"}, auth=login).status_code == 401
        upload = "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=0&path=evil.py"
        assert server.post(upload, content=b"pass", auth=login).status_code == 401
        assert server.put("/api/2.0/mlflow-artifacts/artifacts/evil.py", content=b"", auth=login).status_code == 401
    assert not list(tmp_path.iterdir())


def test_it_answers_to_names_of_this_machine_alone(server: httpx.Client, chosen: Settings) -> None:
    def status(host: str) -> int:
        answer = server.get(
            f"{API}experiments/search?max_results=5", auth=mlflow_server.login(chosen), headers={"Host": host}
        )
        return answer.status_code

    for name in ("localhost", "127.0.0.1"):
        assert status(f"{name}:{chosen.mlflow_port}") == 200
    for name in (
        "10.evil.com",
        "192.168.1.evil.com",
        "172.16.evil.com",
        "192.168.1.5",
        "localhost.evil.com",
        "evil.com",
    ):
        assert status(f"{name}:{chosen.mlflow_port}") == 403, name
        assert status(name) == 403, name


def test_an_address_that_is_set_is_answered_to_as_well(chosen: Settings) -> None:
    moved = settings.read({"MENAGERIE_HOST": "0.0.0.0", "MENAGERIE_MLFLOW_PAGE": "https://models.example.org/mlflow"})
    assert mlflow_server.allowed_hosts(moved).split(",") == [
        f"{host}{port}" for host in ("127.0.0.1", "localhost", "models.example.org") for port in ("", ":*")
    ]


def test_clients_with_the_variables_are_let_in(
    server: httpx.Client, chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(chosen).items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(chosen.mlflow_uri)
    client.log_text(client.create_run("7").info.run_id, "hoot", "owl.txt")
    (kept,) = (chosen.home / "mlflow").rglob("owl.txt")
    assert kept.read_text() == "hoot"


def test_a_new_user_may_read_and_no_more(server: httpx.Client, chosen: Settings) -> None:
    user = {"username": "uma", "password": "a long password"}
    admin = mlflow_server.login(chosen)
    server.post(f"{API}users/create", json=user, auth=admin).raise_for_status()
    login = (user["username"], user["password"])
    assert server.get(f"{API}experiments/get?experiment_id=7", auth=login).status_code == 200
    assert server.post(f"{API}runs/create", json={"experiment_id": "7"}, auth=login).status_code == 403
    with sqlite3.connect(chosen.home / "mlflow" / "users.db") as users:
        assert user["password"] not in str(users.execute("SELECT * FROM users").fetchall())
