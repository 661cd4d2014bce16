import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from ml import settings
from ml.environment import adopt, environment, password
from ml.errors import ParameterError, StorageError
from ml.inherited import left_out


@pytest.fixture
def chosen(tmp_path: Path) -> settings.Settings:
    return settings.read({"MENAGERIE_HOME": str(tmp_path), "MENAGERIE_AIRFLOW_PORT": "8181"})


def test_a_program_of_the_stack_reads_the_same_settings(chosen: settings.Settings, tmp_path: Path) -> None:
    def without_login(one: settings.Settings) -> dict[str, object]:
        return one.model_dump(exclude={"mlflow_user", "mlflow_password"})  # the stack's own

    moved = chosen.model_copy(
        update={"photos_root": str(tmp_path / "elsewhere"), "parallelism": 3, "airflow_page": "https://a.org"}
    )
    assert without_login(settings.read(environment(moved))) == without_login(moved)
    assert environment(moved)["AIRFLOW__API__BASE_URL"] == "https://a.org"
    by_url = settings.read(
        {"MENAGERIE_HOME": str(chosen.home), "MENAGERIE_PHOTOS": "s3://a/b", "MENAGERIE_STORE": "gs://c"}
    )
    assert without_login(settings.read(environment(by_url))) == without_login(by_url)


def test_secrets_are_made_once_and_for_their_owner_alone(chosen: settings.Settings) -> None:
    first = environment(chosen)
    assert environment(chosen) == first
    assert password(chosen) == password(chosen) != ""
    secret = list(chosen.home.rglob("*.json"))
    assert len(secret) == 4
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert chosen.home.stat().st_mode & 0o777 == 0o700


def test_an_open_home_is_closed_to_other_accounts(chosen: settings.Settings) -> None:
    chosen.home.chmod(0o755)
    environment(chosen)
    assert chosen.home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "path", ["airflow/keys.json", "airflow/passwords.json", "mlflow/login.json", "mlflow/keys.json"]
)
@pytest.mark.parametrize("text", ["", '{"admin": "', "[]", "\0" * 40])
def test_damaged_secrets_are_named_and_never_replaced(chosen: settings.Settings, path: str, text: str) -> None:
    environment(chosen)
    (chosen.home / path).write_text(text)
    with pytest.raises(StorageError, match=f"{path}.*Restore it from a backup"):
        environment(chosen)
    assert (chosen.home / path).read_text() == text


def test_a_login_that_is_lost_is_not_made_again_beside_the_users_who_know_it(chosen: settings.Settings) -> None:
    environment(chosen)
    (chosen.home / "mlflow" / "users.db").touch()
    (chosen.home / "mlflow" / "login.json").unlink()
    with pytest.raises(StorageError, match="Restore it from a backup"):
        environment(chosen)


def test_a_home_that_cannot_be_used_is_named(chosen: settings.Settings, tmp_path: Path, unprivileged: Callable) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "below", Path("/proc/nowhere")):
        with pytest.raises(StorageError, match=f"MENAGERIE_HOME={home}"):
            environment(chosen.model_copy(update={"home": home}))
    for home in (tmp_path / "what?", tmp_path / "no#1", tmp_path / "$HOME"):
        with pytest.raises(ParameterError, match="must have no"):
            environment(chosen.model_copy(update={"home": home}))
    with unprivileged() as folder:
        (folder / "home").mkdir()
        (folder / "home").chmod(0o500)
        with pytest.raises(StorageError, match="read-only"):
            environment(chosen.model_copy(update={"home": folder / "home"}))


def test_a_folder_that_everybody_may_write_to_stays_open(chosen: settings.Settings, tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    environment(chosen.model_copy(update={"home": shared}))
    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_an_escape_in_the_path_of_a_home_is_no_blank(chosen: settings.Settings, tmp_path: Path) -> None:
    home = tmp_path / "50%20"
    moved = chosen.model_copy(update={"home": home})
    url = sqlalchemy.make_url(environment(moved)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    assert url.database == str(home / "airflow" / "airflow.db")


def test_a_process_that_joins_in_computes_as_a_task_does(
    chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"MLFLOW_RUN_ID": "0" * 32, "KERAS_BACKEND": "jax"})
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)  # the tests' own workers have it
    adopt(chosen)
    assert "MLFLOW_RUN_ID" not in os.environ
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"]
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == str(os.cpu_count())


def test_what_is_set_for_other_programs_does_not_reach_the_stack(
    chosen: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"KERAS_BACKEND": "jax", "KERAS_HOME": "/elsewhere", "KERAS_MAX_EPOCHS": "1", "MLFLOW_RUN_ID": "0" * 32}
    theirs |= {"MLFLOW_REGISTRY_URI": "http://elsewhere", "MLFLOW_TRACKING_USERNAME": "me", "no_proxy": "example.org"}
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    variables = environment(chosen)
    assert variables["KERAS_BACKEND"] == "tensorflow"
    assert variables["KERAS_HOME"] == str(chosen.home / "keras")
    assert not {"KERAS_MAX_EPOCHS", "MLFLOW_RUN_ID", "MLFLOW_REGISTRY_URI"} & variables.keys()
    assert variables["MLFLOW_TRACKING_USERNAME"] == "admin"
    assert variables["no_proxy"] == variables["NO_PROXY"] == "example.org,localhost,127.0.0.1"
    assert "KERAS_BACKEND" in left_out(theirs, variables, owns_mlflow=True)
    monkeypatch.setenv("no_proxy", "*")
    assert environment(chosen)["no_proxy"] == "*"


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "",
            " ",
            "http://localhost:5000",
            "http://localhost:5000/",
            "http://127.0.0.1:5000/",
            "HTTP://LOCALHOST:5000",
        ),
        *(
            "http://0.0.0.0:5000",
            "http://[::1]:5000",
            "http://127.0.0.1:5000/#/experiments/1",
            "http://me@localhost:5000",
        ),
    ],
)
def test_this_machines_server_is_its_own_by_any_name(uri: str) -> None:
    assert settings.read({"MLFLOW_TRACKING_URI": uri}).owns_mlflow


@pytest.mark.parametrize(
    "uri",
    ["http://localhost:5001", "https://localhost:5000", "http://mlflow:5000", "sqlite:///a", "http://localhost:500000"],
)
def test_another_server_is_not(uri: str, tmp_path: Path) -> None:
    other = settings.read({"MENAGERIE_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": f"{uri}/"})
    assert not other.owns_mlflow
    assert "MLFLOW_AUTH_CONFIG_PATH" not in environment(other)


def test_another_home_has_other_secrets(chosen: settings.Settings, tmp_path: Path) -> None:
    other = chosen.model_copy(update={"home": tmp_path / "other"})
    assert password(other) != password(chosen)
    assert environment(other)["AIRFLOW__API_AUTH__JWT_SECRET"] != environment(chosen)["AIRFLOW__API_AUTH__JWT_SECRET"]


def test_airflow_knows_every_option(chosen: settings.Settings) -> None:
    variables = environment(chosen)
    listing = subprocess.run(
        ["airflow", "config", "list", "--defaults"], env=variables, capture_output=True, text=True, check=True
    )
    known = {line.removeprefix("# Variable: ") for line in listing.stdout.splitlines()}
    assert {name for name in variables if name.startswith("AIRFLOW__")} <= known


def test_a_task_may_wait_for_hours_for_a_free_core(chosen: settings.Settings) -> None:
    """Airflow's token to start a task is valid for `task_queued_timeout`, ten minutes by default."""
    variables = environment(chosen)
    for option in ("SCHEDULER__TASK_QUEUED_TIMEOUT", "EXECUTION_API__JWT_EXPIRATION_TIME"):
        assert float(variables[f"AIRFLOW__{option}"]) >= 24 * 3600
