"""The files of docker/, as far as they can be judged without an engine."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml.settings import CHECKOUT

DOCKER = CHECKOUT / "docker"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)([^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|KEY$|PGPASS|REDISCLI_AUTH|BROKER_URL")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(compose["services"], dict)
    return compose["services"]


def example() -> dict[str, bool]:
    """The variables of .env.example, and whether each is a secret, which has to be made."""
    found = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    return {name: not (comment or value) for comment, name, value in found}


def test_only_the_two_pages_are_published_and_on_this_machine_alone(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"api-server", "mlflow"}
    for ports in published.values():
        assert len(ports) == 1
        assert ports[0].startswith("${MENAGERIE_HOST:-127.0.0.1}:")
    assert not any("network_mode" in service or service.get("privileged") for service in services.values())


def test_secrets_come_from_the_env_file_and_have_no_default(services: dict[str, Any]) -> None:
    seen = set()
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                ((variable, rest),) = VARIABLE.findall(value)
                assert rest == ":?", f"{name} has a default"
                seen.add(variable)
    assert seen == {name for name, secret in example().items() if secret}


def test_the_example_names_every_variable_and_no_other() -> None:
    used = {name for name, _ in VARIABLE.findall((DOCKER / "compose.yaml").read_text())}
    assert used | {"COMPOSE_PROJECT_NAME"} == example().keys()  # Compose reads this one itself


def test_images_are_pinned(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()}
    assert {image for image in images if image.startswith("menagerie:")} == {"menagerie:cpu", "menagerie:gpu"}
    for image in images - {"menagerie:cpu", "menagerie:gpu"}:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?-[a-z]+", image), image


def test_every_service_is_watched_and_has_few_rights(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "test" in service["healthcheck"] or name == "init"
        assert service["cap_drop"] == ["ALL"]
        assert service.get("read_only") or service["user"] in ("postgres", "redis")


def test_no_secret_goes_into_git_or_into_the_image() -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert "!docker" not in ignored
    assert "!docker/.env" not in ignored
    if not (CHECKOUT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git")
    git = ["git", "-C", str(CHECKOUT)]
    assert subprocess.run([*git, "check-ignore", "-q", "docker/.env"], check=False).returncode == 0
    assert not subprocess.run([*git, "ls-files", "docker/.env"], check=True, capture_output=True).stdout


def test_the_image_holds_what_is_copied_and_runs_as_nobody_in_particular() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (CHECKOUT / source).exists()
                assert any(kept.split("/")[0] == f"!{source}".split("/")[0] for kept in ignored), source
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert "USER menagerie" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_the_gpu_image_has_the_same_tensorflow() -> None:
    wanted = re.findall(r"^tensorflow-cpu==(\S+)", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE)
    lock = (DOCKER / "gpu.lock").read_text()
    assert re.findall(r"^tensorflow==(\S+)", lock, re.MULTILINE) == wanted
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= set(re.findall(r"^(\S+)==", lock, re.MULTILINE))
    assert all("--hash=sha256:" in each for each in re.split(r"\n(?=\S)", lock.strip()))


def make_env(folder: Path) -> dict[str, str]:
    for name in ("make_env.py", ".env.example"):
        shutil.copy(DOCKER / name, folder)
    subprocess.run([sys.executable, folder / "make_env.py"], check=True)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", (folder / ".env").read_text(), re.MULTILINE))


def test_secrets_are_made_once(tmp_path: Path) -> None:
    made = make_env(tmp_path)
    assert made.pop("COMPOSE_PROJECT_NAME") == "menagerie"
    assert made.keys() == {name for name, secret in example().items() if secret}
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[\w=-]{44}", value) for value in made.values())
    assert make_env(tmp_path) == {**made, "COMPOSE_PROJECT_NAME": "menagerie"}


def test_a_new_secret_joins_the_old_ones(tmp_path: Path) -> None:
    made = make_env(tmp_path)
    (tmp_path / ".env").write_text(f"MENAGERIE_PHOTOS=/zoo\nREDIS_PASSWORD={made['REDIS_PASSWORD']}")
    again = make_env(tmp_path)
    assert (again["MENAGERIE_PHOTOS"], again["REDIS_PASSWORD"]) == ("/zoo", made["REDIS_PASSWORD"])
    assert again.keys() | {"COMPOSE_PROJECT_NAME"} == made.keys() | {"MENAGERIE_PHOTOS"}
    assert again["POSTGRES_PASSWORD"] != made["POSTGRES_PASSWORD"]


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    compose = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*compose, "version"], check=False, capture_output=True).returncode:
        pytest.skip("no docker compose")
    make_env(tmp_path)
    command = [*compose, "--file", str(DOCKER / "compose.yaml"), "--env-file", str(tmp_path / ".env"), "config"]
    config = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {"postgres", "redis", "init", "mlflow", "scheduler", "worker"} <= config["services"].keys()


@pytest.fixture
def airflow() -> Iterator[tuple[str, dict[str, Any]]]:
    """An API server that says what is put into the dictionary."""
    health: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = health if self.path == "/api/v2/monitor/health" else {}
            self.send_response(200 if answer else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/execution/", health
        server.shutdown()


def test_the_health_check_tells_which_part_is_ill(airflow: tuple[str, dict[str, Any]]) -> None:
    url, health = airflow

    def check(part: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, DOCKER / "healthcheck.py", part],
            env={"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": url, "PYTHONPATH": str(CHECKOUT)},
            check=False,
            capture_output=True,
            text=True,
        )

    assert check("scheduler").returncode == 1
    health |= {"scheduler": {"status": "unhealthy"}, "triggerer": {"status": "healthy"}}
    assert check("triggerer").returncode == 0
    ill = check("scheduler")
    assert ill.returncode == 1
    assert "scheduler" in ill.stderr
