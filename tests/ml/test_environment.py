import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ml import settings
from ml.environment import environment, password


@pytest.fixture
def chosen(tmp_path: Path) -> settings.Settings:
    return settings.read({"MENAGERIE_HOME": str(tmp_path), "MENAGERIE_AIRFLOW_PORT": "8181"})


def test_a_program_of_the_stack_reads_the_same_settings(chosen: settings.Settings, tmp_path: Path) -> None:
    moved = replace(chosen, photos=tmp_path / "elsewhere", parallelism=3, airflow_page="https://a.org")
    assert settings.read(environment(moved)) == moved
    assert environment(moved)["AIRFLOW__API__BASE_URL"] == "https://a.org"
    by_url = settings.read(
        {"MENAGERIE_HOME": str(chosen.home), "MENAGERIE_PHOTOS": "s3://a/b", "MENAGERIE_STORE": "gs://c"}
    )
    assert settings.read(environment(by_url)) == by_url


def test_secrets_are_made_once_and_for_their_owner_alone(chosen: settings.Settings) -> None:
    first = environment(chosen)
    assert environment(chosen) == first
    assert password(chosen) == password(chosen) != ""
    secret = [path for path in (chosen.home / "airflow").iterdir() if path.suffix == ".json"]
    assert len(secret) == 2
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


def test_another_home_has_other_secrets(chosen: settings.Settings, tmp_path: Path) -> None:
    other = replace(chosen, home=tmp_path / "other")
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
