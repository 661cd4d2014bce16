"""The local stack: Airflow's four programs on SQLite and one MLflow server, on this machine's loopback address.

`python -m ml.stack` is its supervisor; `up`, `down` and `ml.demo` start and end that.
"""

import base64
import importlib.metadata
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from ml import settings as settings_module
from ml import supervisor
from ml.errors import MenagerieError, ServiceError
from ml.rest import Airflow
from ml.settings import CHECKOUT, Settings

USER = "admin"
PATIENCE = 180.0
"""Seconds until all parts must be healthy; on two busy cores it takes a tenth of that."""


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that the programs of the stack, and an `airflow` on the command line, run with.

    They start from this process's own. The keys and the password are made on the first call, and kept below
    `home`, readable by their owner alone.
    """
    airflow, binaries = settings.home / "airflow", Path(sys.executable).parent
    keys = _keys(airflow)
    threads = str(max(1, (os.cpu_count() or 1) // settings.parallelism))
    menagerie: dict[str, object] = {
        "MENAGERIE_HOME": settings.home,
        "MENAGERIE_PHOTOS": settings.photos,
        "MENAGERIE_ANIMALS": settings.animals,
        "MENAGERIE_HOST": settings.host,
        "MENAGERIE_AIRFLOW_PORT": settings.airflow_port,
        "MENAGERIE_MLFLOW_PORT": settings.mlflow_port,
        "MENAGERIE_PARALLELISM": settings.parallelism,
        "MENAGERIE_DAGS": dags_folder(),
        "AIRFLOW_HOME": airflow,
    }
    options: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": dags_folder(),
            "plugins_folder": CHECKOUT / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": settings.parallelism,
            "max_active_runs_per_dag": 2,
            "execution_api_server_url": f"{settings.airflow_url}/execution/",
            # The log servers listen on every address, so none is started (--skip-serve-logs), and a task has no
            # host to ask for its log: it is read from the disk, which is the same.
            "hostname_callable": "builtins.str",
            "fernet_key": keys["fernet_key"],
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": _passwords(settings),
        },
        # The time that a writer waits for another; a busy machine needs more than SQLite's 5 seconds.
        "database": {"sql_alchemy_conn": f"sqlite:///{_database(settings)}?timeout=60"},
        "api": {
            "host": settings.host,
            "port": settings.airflow_port,
            "base_url": settings.airflow_url,
            "secret_key": keys["secret_key"],
            "workers": 1,
        },
        "api_auth": {"jwt_secret": keys["jwt_secret"]},
        # A task's token is made when it is queued, and must last as long as it waits and runs.
        "execution_api": {"jwt_expiration_time": 48 * 3600},
        # Tasks that an earlier stack left start before the API server is ready: they ask it for 3 minutes.
        "workers": {
            "execution_api_timeout": 30,
            "execution_api_retries": 20,
            "execution_api_retry_wait_max": 10,
        },
        "scheduler": {"scheduler_idle_sleep_time": 0.5, "orphaned_tasks_check_interval": 30},
        "dag_processor": {
            "refresh_interval": 10,
            "dag_bundle_storage_path": airflow / "bundles",
        },
        "logging": {
            "base_log_folder": settings.home / "logs" / "tasks",
            "dag_processor_child_process_log_directory": settings.home / "logs" / "dags",
            "colored_console_log": False,
        },
    }
    others: dict[str, object] = {
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GIT_PYTHON_REFRESH": "quiet",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    variables = {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, named in options.items()
        for name, value in named.items()
    }
    return os.environ | {name: str(value) for name, value in (menagerie | variables | others).items()}


def dags_folder() -> Path:
    """Return the folder of the DAG files: `MENAGERIE_DAGS`, or the checkout's."""
    return Path(os.environ.get("MENAGERIE_DAGS") or CHECKOUT / "dags").absolute()


def client(settings: Settings) -> Airflow:
    """Return a client of the stack's Airflow, logged in as its user."""
    return Airflow(settings.airflow_url, USER, password(settings))


def password(settings: Settings) -> str:
    """Return the password of Airflow's user; it is made on the first call."""
    return str(json.loads(_passwords(settings).read_text())[USER])


def up(settings: Settings, console: Console) -> None:
    """Start the stack and leave it running, or say that it runs.

    Raises:
        MenagerieError: a port is taken, or a part doesn't start; then nothing is left running.
    """
    if (state := _running(settings)) is None:
        process = start(settings, console)
        assert process.stdin
        process.stdin.write(supervisor.KEEP)
        process.stdin.flush()
        console.print("Menagerie is up.")
    elif state.get("kept"):
        console.print("Menagerie runs already.")
    else:
        console.print("Menagerie is being started, or its demo runs, in another terminal.")
    console.print(
        f"  Airflow  {settings.airflow_url}   user {USER}, password {password(settings)}\n"
        f"  MLflow   {settings.mlflow_uri}\n"
        f"  Logs     {settings.home / 'logs'}\n"
        "A DAG is paused, and its schedule off, until you switch it on in Airflow. `make down` ends all of it.",
        highlight=False,
        soft_wrap=True,
    )


def down(settings: Settings, console: Console) -> None:
    """End the stack and every task that it runs; the tasks start again with the next `up`."""
    state = supervisor.running(_lock(settings))
    if state is None:
        console.print("Nothing was running.")
        if why := reason(settings):
            console.print(f"The last stack ended by itself: {why}", highlight=False, soft_wrap=True)
        return
    with waiting(console, "Ending"):
        _end(settings, int(state["pid"]))
    console.print("Menagerie is down.")


def start(settings: Settings, console: Console) -> "subprocess.Popen[bytes]":
    """Start the stack and return its supervisor when every part is healthy.

    The stack ends when the supervisor's standard input closes, so when this process dies, unless `supervisor.KEEP` is
    written to it first.

    Raises:
        MenagerieError: a stack runs already, a port is taken, or a part doesn't start; then nothing is left running.
    """
    if _running(settings) is not None:
        raise MenagerieError("A Menagerie runs already in this folder. End it first: make down")
    _check_ports(settings)
    for folder in ("airflow", "mlflow", "logs", "run"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(_database(settings)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # it stays so: who reads doesn't wait for who writes
    variables = environment(settings)
    since = datetime.now(UTC)
    with open(_reason_file(settings), "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml.stack"],
            env=variables,
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        _await_health(settings, process, since, console)
    except BaseException:
        _migrated(settings).unlink(missing_ok=True)
        stop(settings, process)
        raise
    _migrated(settings).write_text(importlib.metadata.version("apache-airflow-core"))
    return process


def stop(settings: Settings, process: "subprocess.Popen[bytes]") -> None:
    """End a stack that `start` returned."""
    assert process.stdin
    process.stdin.close()
    _end(settings, process.pid)
    process.wait()


def _plan(settings: Settings) -> supervisor.Plan:
    mlflow = settings.home / "mlflow"
    airflow = {
        "api-server": ["airflow", "api-server"],
        "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
        "dag-processor": ["airflow", "dag-processor"],
        "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
    }
    server = [
        *("mlflow", "server", "--host", settings.host, "--port", str(settings.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{mlflow / 'mlflow.db'}"),
        *("--artifacts-destination", str(mlflow / "artifacts")),
    ]
    return supervisor.Plan(
        first={} if _is_migrated(settings) else {"migrate": ["airflow", "db", "migrate"]},
        then=airflow,
        programs={"mlflow": server} if _own_mlflow(settings) else {},
        cut=frozenset({"scheduler"}),
    )


def _is_migrated(settings: Settings) -> bool:
    """Whether the database is known to be of this version of Airflow; to ask Airflow takes seconds."""
    try:
        known = _migrated(settings).read_text()
    except OSError:
        return False
    return known == importlib.metadata.version("apache-airflow-core") and _database(settings).exists()


def _own_mlflow(settings: Settings) -> bool:
    """Whether the MLflow server is ours, and not one that `MLFLOW_TRACKING_URI` names."""
    return settings.mlflow_uri == f"http://{settings.host}:{settings.mlflow_port}"


def _await_health(settings: Settings, process: "subprocess.Popen[bytes]", since: datetime, console: Console) -> None:
    began, seen = time.monotonic(), ""
    with waiting(console, "Starting") as status, httpx.Client(timeout=10.0, trust_env=False) as http:
        while missing := _missing(settings, http, since):
            if process.poll() is not None:
                raise ServiceError(f"Menagerie didn't start. {reason(settings) or 'Its supervisor was ended.'}")
            if time.monotonic() - began > PATIENCE:
                logs = "\n".join(supervisor.tail(settings.home / "logs" / f"{name}.log") for name in missing)
                raise ServiceError(f"Not healthy after {PATIENCE:.0f} s: {', '.join(missing)}.\n{logs}")
            text = f"Starting: waiting for {', '.join(missing)}"
            if status:
                status.update(f"{text} ({time.monotonic() - began:.0f} s)")
            elif text != seen:
                console.print(text, highlight=False, soft_wrap=True)
            seen = text
            time.sleep(0.5)


def _missing(settings: Settings, http: httpx.Client, since: datetime) -> list[str]:
    """Return the parts that have not shown since `since` that they work."""
    missing = [] if _answers(http, f"{settings.mlflow_uri}/health") is not None else ["mlflow"]
    health = _answers(http, f"{settings.airflow_url}/api/v2/monitor/health")
    if health is None:
        return [*missing, "api-server", "scheduler", "dag-processor", "triggerer"]
    for name in ("scheduler", "dag_processor", "triggerer"):
        beat = health.json()[name][f"latest_{name}_heartbeat"]
        if health.json()[name]["status"] != "healthy" or datetime.fromisoformat(beat) < since:
            missing.append(name.replace("_", "-"))
    return missing or _unparsed(client(settings), since)


def _unparsed(airflow: Airflow, since: datetime) -> list[str]:
    """Return the DAG files whose DAGs, or errors, Airflow doesn't know yet."""
    folder = dags_folder()
    files = [path for path in sorted(folder.rglob("*.py")) if any(mark in path.read_text() for mark in ("@dag", "DAG("))]
    known = [(dag["relative_fileloc"], dag["last_parsed_time"]) for dag in airflow.all("dags", "dags")]
    known += [(error["filename"], error["timestamp"]) for error in airflow.all("importErrors", "import_errors")]
    parsed = {str(folder / name) for name, at in known if name and at and datetime.fromisoformat(at) >= since}
    return [path.name for path in files if str(path) not in parsed]


def _answers(http: httpx.Client, url: str) -> httpx.Response | None:
    try:
        answer = http.get(url)
    except httpx.HTTPError:
        return None
    return answer if answer.is_success else None


def _running(settings: Settings) -> dict[str, Any] | None:
    """Return what a running stack noted; what a stack without its supervisor has left is ended."""
    state = supervisor.running(_lock(settings))
    if state and not supervisor.is_alive(int(state["pid"])):
        supervisor.end_session(int(state["pid"]), grace=2.0)
        return None
    return state


def _end(settings: Settings, pid: int) -> None:
    """End the stack whose supervisor is, or was, `pid`."""
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        pass
    deadline = time.monotonic() + 15.0
    while supervisor.is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    supervisor.end_session(pid, grace=0.0)


def _check_ports(settings: Settings) -> None:
    wanted = [(settings.airflow_port, "Airflow", "MENAGERIE_AIRFLOW_PORT")]
    if _own_mlflow(settings):
        wanted.append((settings.mlflow_port, "MLflow", "MENAGERIE_MLFLOW_PORT"))
    for port, what, variable in wanted:
        if not _free(settings.host, port):
            other = next(p for p in range(port + 1, 65536) if _free(settings.host, p))
            raise MenagerieError(
                f"Port {port} of {settings.host}, for {what}, is taken by another program. "
                f"End that program, or choose another port: {variable}={other} make up"
            )


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def waiting(console: Console, text: str) -> AbstractContextManager[Any]:
    return console.status(text) if console.is_terminal else nullcontext()


def _lock(settings: Settings) -> Path:
    return settings.home / "run" / "stack.lock"


def _database(settings: Settings) -> Path:
    return settings.home / "airflow" / "airflow.db"


def _migrated(settings: Settings) -> Path:
    return settings.home / "airflow" / "migrated"


def _reason_file(settings: Settings) -> Path:
    return settings.home / "logs" / "stack.log"


def reason(settings: Settings) -> str:
    """Return why the last stack ended, if nobody had asked it to."""
    try:
        return _reason_file(settings).read_text().strip()
    except OSError:
        return ""


def _keys(folder: Path) -> dict[str, str]:
    def make() -> dict[str, str]:
        return {
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_urlsafe(32),
            "jwt_secret": secrets.token_urlsafe(64),
        }

    return _kept(folder / "keys.json", make)


def _passwords(settings: Settings) -> Path:
    path = settings.home / "airflow" / "passwords.json"
    _kept(path, lambda: {USER: secrets.token_urlsafe(12)})
    return path


def _kept(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return the secrets in `path`; the first caller makes them."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(make(), file)
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        aside.unlink()
    return dict(json.loads(path.read_text()))


def main() -> int:
    """Supervise the stack that the environment describes."""
    settings = settings_module.read()
    note = {"airflow": settings.airflow_url, "mlflow": settings.mlflow_uri}
    return supervisor.supervise(_plan(settings), _lock(settings), settings.home / "logs", note)


if __name__ == "__main__":
    raise SystemExit(main())
