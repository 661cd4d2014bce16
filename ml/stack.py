"""The local stack: Airflow's four programs on SQLite and one MLflow server, on the loopback address.

`python -m ml.stack` is its supervisor; `up`, `attend`, `down` and `ml.demo` start and end that.
"""

import importlib.metadata
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
from rich.console import Console

from ml import mlflow_server, supervisor
from ml import settings as settings_module
from ml.data.first_photos import has_files, ways_out
from ml.environment import USER, database, environment, password
from ml.errors import MenagerieError, ParameterError, ServiceError, StorageError
from ml.health import missing_parts
from ml.inherited import left_out
from ml.keys import make_home
from ml.rest import Airflow
from ml.settings import CHECKOUT, Settings

LEAST_DISK = 100_000_000
"""Bytes that must be free to start: databases and logs of a first start take a tenth of that."""
PATIENCE = 180.0
"""Seconds until all parts must be healthy; on two busy cores it takes a tenth of that."""


def client(settings: Settings) -> Airflow:
    """Return a client of the stack's Airflow, logged in as its user."""
    return Airflow(settings.airflow_url, USER, password(settings))


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
    elif (photos := state.get("photos", settings.root())) != settings.root():
        raise MenagerieError(
            f"Menagerie runs already, on the photos at {photos}. To use those at {settings.root()}: make down, then "
            "this command again."
        )
    elif state.get("kept"):
        console.print("Menagerie runs already.")
    else:
        console.print("Menagerie runs, or is being started, in another terminal.")
    _tell(settings, console)
    console.print("`make down` ends all of it.")
    if not settings.photos_url and not has_files(settings.photos):
        text = f"\nThere are no photos at {settings.photos} yet.\n{ways_out(settings.photos)}"
        console.print(text, highlight=False, soft_wrap=True)


def attend(settings: Settings, console: Console) -> None:
    """Start the stack, stay until SIGTERM, SIGINT or `down`, and end it: what a container or service manager runs.

    Raises:
        SystemExit: a signal came; the status is 0.
        MenagerieError: a port is taken, a part doesn't start, or the stack ended by itself.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    process = start(settings, console)
    try:
        console.print("Menagerie is up.")
        _tell(settings, console)
        ended = status = 0
        while ended != process.pid:
            ended, status = os.wait()  # as the first process of a container, this one inherits the orphans
        if status:
            raise ServiceError(f"Menagerie ended by itself. {reason(settings) or 'Its supervisor was killed.'}")
    finally:
        stop(settings, process)


def down(settings: Settings, console: Console) -> None:
    """End the stack and every task that it runs; the tasks start again with the next `up`."""
    state = supervisor.running(_lock(settings))
    if state is None:
        console.print("Nothing was running.")
        if why := reason(settings):
            console.print(f"The last stack ended by itself: {why}", highlight=False, soft_wrap=True)
        return
    with waiting(console, "Ending"):
        _end(int(state["pid"]))
    console.print("Menagerie is down.")


def start(settings: Settings, console: Console) -> "subprocess.Popen[bytes]":
    """Start the stack and return its supervisor when every part is healthy.

    The stack ends when the supervisor's standard input closes, so at the latest when this process dies, unless
    `supervisor.KEEP` is written to it first.

    Raises:
        MenagerieError: a stack runs already, a port is taken, or a part doesn't start, and nothing is left of it.
    """
    if _running(settings) is not None:
        raise MenagerieError("A Menagerie runs already in this folder. End it first: make down")
    _check_ports(settings)
    _check_other_mlflow(settings, console)
    make_home(settings.home)
    _make_folders(settings)
    variables = environment(settings)
    if names := left_out(os.environ, variables, settings.owns_mlflow):
        text = f"Left out of the environment, as it is meant for other programs: {', '.join(names)}"
        console.print(text, highlight=False, soft_wrap=True)
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
        if settings.owns_mlflow:  # another server was asked before anything started
            _check_login(settings)
        # Airflow's LocalExecutor would take in every task that is ready, and begin them in that order, whatever their
        # priority; what a pool has no slot for stays with the scheduler, which chooses by it.
        client(settings).patch("pools/default_pool?update_mask=slots", {"slots": settings.parallelism})
    except BaseException:
        _migrated(settings).unlink(missing_ok=True)
        stop(settings, process)
        raise
    _migrated(settings).write_text(_schemas(settings))
    return process


def _make_folders(settings: Settings) -> None:
    """Make the folders and Airflow's database.

    Raises:
        StorageError: the disk refuses, or is nearly full: databases and logs would fail one by one, each in its way.
    """
    advice = "Make room, or choose another folder: MENAGERIE_HOME=folder make up"
    if (free := shutil.disk_usage(settings.home).free) < LEAST_DISK:
        raise StorageError(
            f"Expected {LEAST_DISK / 1e6:,.0f} MB free for {settings.home}. Received: {free / 1e6:,.0f} MB. {advice}"
        )
    try:
        for folder in ("airflow", "mlflow", "logs", "run"):
            (settings.home / folder).mkdir(exist_ok=True)
        with sqlite3.connect(database(settings)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # it stays so: who reads doesn't wait for who writes
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"Expected to write below {settings.home}. Received: {error}. {advice}") from error


def join(settings: Settings, console: Console) -> None:
    """Wait until every part of a stack that others started is healthy, as seen from where its API server runs.

    Raises:
        ServiceError: it isn't in time.
    """
    _await_health(settings, None, datetime.fromtimestamp(0, UTC), console)


def stop(settings: Settings, process: "subprocess.Popen[bytes]") -> None:
    """End a stack that `start` returned."""
    assert process.stdin
    process.stdin.close()
    _end(process.pid)
    process.wait()


def _tell(settings: Settings, console: Console) -> None:
    login = mlflow_server.login(settings) if settings.owns_mlflow else None
    console.print(
        f"  Airflow  {settings.airflow_link}   user {USER}, password {password(settings)}\n"
        f"  MLflow   {settings.mlflow_link}{'   user {}, password {}'.format(*login) if login else ''}\n"
        f"  Logs     {settings.home / 'logs'}\n"
        "A DAG is paused, its schedule off, until you switch it on in Airflow.",
        highlight=False,
        soft_wrap=True,
    )


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def _plan(settings: Settings) -> supervisor.Plan:
    airflow = {
        "api-server": ["airflow", "api-server"],
        "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
        "dag-processor": ["airflow", "dag-processor"],
        "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
    }
    mlflow = {"mlflow": mlflow_server.command(settings)} if settings.owns_mlflow else {}
    first: dict[str, supervisor.Command] = {}
    if not _is_migrated(settings):
        first["migrate"] = ["airflow", "db", "migrate"]
        if mlflow and mlflow_server.database(settings).exists():  # a new one begins with the newest schema
            first["migrate-mlflow"] = mlflow_server.migration(settings)
    return supervisor.Plan(first, {"migrate": airflow, "migrate-mlflow": mlflow}, cut=frozenset({"scheduler"}))


def _is_migrated(settings: Settings) -> bool:
    """Whether the databases are as these versions of Airflow and MLflow left them; to ask them takes seconds."""
    try:
        return _migrated(settings).read_text() == _schemas(settings)
    except OSError:
        return False


def _schemas(settings: Settings) -> str:
    """Return the versions of Airflow and MLflow, and of the schemas of their databases."""
    databases = {"apache-airflow-core": database(settings)}
    if settings.owns_mlflow:
        databases["mlflow"] = mlflow_server.database(settings)
    return "\n".join(
        f"{package} {importlib.metadata.version(package)} {_schema(file)}" for package, file in databases.items()
    )


def _schema(file: Path) -> str:
    """Return the version of a database's schema, which Alembic notes in it; it is empty if there is none."""
    if not file.exists():
        return ""
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchall())
    return ""


def _check_other_mlflow(settings: Settings, console: Console) -> None:
    """Say which MLflow server is used if it isn't our own; one that doesn't answer now is not waited for.

    Raises:
        ParameterError: `MLFLOW_TRACKING_URI` is not the address of a server.
        ServiceError: nothing answers there.
    """
    if settings.owns_mlflow:
        return
    advice = "Unset the variable, and Menagerie starts a server of its own."
    if not settings.mlflow_uri.startswith(("http://", "https://")):
        raise ParameterError(
            f"MLFLOW_TRACKING_URI must be the address of an MLflow server, http://host:port. Received: "
            f"{settings.mlflow_uri!r}. {advice}"
        )
    console.print(f"MLflow is at {settings.mlflow_uri}, as MLFLOW_TRACKING_URI says.", highlight=False, soft_wrap=True)
    try:
        with mlflow_server.client(settings) as mlflow:
            mlflow.get("/health").raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a proxy of a kind that is unknown
        raise ServiceError(
            f"Expected an MLflow server at {settings.mlflow_uri}, which MLFLOW_TRACKING_URI names. Received: {error}. "
            f"Start that server. Or: {advice[0].lower()}{advice[1:]}"
        ) from error
    _check_login(settings)


def _check_login(settings: Settings) -> None:
    """Raise ServiceError if MLflow doesn't let its clients in: every task would fail, one by one."""
    try:
        with mlflow_server.client(settings, "/api/2.0/mlflow/") as mlflow:
            status = mlflow.get("experiments/search", params={"max_results": 1}).status_code
    except httpx.HTTPError as error:
        raise ServiceError(f"MLflow at {settings.mlflow_uri} doesn't answer: {error!r}") from error
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        remedy = (
            f"If its administrator has another password now, write that into {mlflow_server.login_file(settings)}."
            if settings.owns_mlflow
            else "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a login that may write."
        )
        raise ServiceError(f"MLflow at {settings.mlflow_uri} refuses the login (status {status}). {remedy}")


def _await_health(
    settings: Settings, process: "subprocess.Popen[bytes] | None", since: datetime, console: Console
) -> None:
    began, seen, airflow = time.monotonic(), "", client(settings)
    with (
        waiting(console, "Starting") as status,
        httpx.Client(timeout=10.0, trust_env=False) as http,
        mlflow_server.client(settings) as mlflow,
    ):
        while missing := missing_parts(settings, http, mlflow, airflow, since):
            if process and process.poll() is not None:
                raise ServiceError(f"Menagerie didn't start. {reason(settings) or 'It was asked to end.'}")
            if time.monotonic() - began > PATIENCE:
                files = [settings.home / "logs" / f"{name}.log" for name in missing]
                # What an earlier run of this stack left says nothing about this one.
                logs = [
                    supervisor.tail(file)
                    for file in files
                    if file.exists() and file.stat().st_mtime > since.timestamp()
                ]
                raise ServiceError("\n".join([f"Not healthy after {PATIENCE:.0f} s: {', '.join(missing)}.", *logs]))
            text = f"Starting: waiting for {', '.join(missing)}"
            if status:
                status.update(f"{text} ({time.monotonic() - began:.0f} s)")
            elif text != seen:
                console.print(text, highlight=False, soft_wrap=True)
            seen = text
            time.sleep(0.5)


def _running(settings: Settings) -> dict[str, Any] | None:
    """Return what a running stack noted; what a stack without its supervisor has left is ended."""
    state = supervisor.running(_lock(settings))
    if state and not supervisor.is_alive(int(state["pid"])):
        supervisor.end_session(int(state["pid"]), grace=2.0)
        return None
    return state


def _end(pid: int) -> None:
    """End the stack whose supervisor is, or was, `pid`."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 15.0
    while supervisor.is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    supervisor.end_session(pid, grace=0.0)


def _check_ports(settings: Settings) -> None:
    wanted = [(settings.airflow_port, "Airflow", "MENAGERIE_AIRFLOW_PORT")]
    if settings.owns_mlflow:
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


def main() -> int:
    """Supervise the stack that the environment describes."""
    settings = settings_module.read()
    note = {"airflow": settings.airflow_url, "mlflow": settings.mlflow_uri, "photos": settings.root()}
    try:
        return supervisor.supervise(_plan(settings), _lock(settings), settings.home / "logs", note)
    except OSError as error:  # the disk is full, or there is no such program
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
