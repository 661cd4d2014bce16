"""The variables that the programs of the local stack run with, and the secrets among them."""

import base64
import os
import secrets
import sys
from pathlib import Path

from ml import mlflow_server
from ml.inherited import inherited
from ml.keys import database_url, kept, make_home
from ml.settings import CHECKOUT, Settings

USER = "admin"
"""The one user of the local Airflow."""


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that the programs of the stack, and an `airflow` on the command line, run with.

    What of this process's own environment reaches them (see `ml.inherited`) goes first, Airflow's
    `AIRFLOW__SECTION__OPTION` too: so a cluster is told of its executor, its database and its broker. The keys and the
    password are made on the first call, and kept below `home`, readable by their owner alone.
    """
    make_home(settings.home)
    airflow, binaries = settings.home / "airflow", Path(sys.executable).parent
    keys, login = _keys(airflow), password(settings)
    threads = str(max(1, (os.cpu_count() or 1) // settings.parallelism))
    ours: dict[str, object] = {
        "MENAGERIE_HOME": settings.home,
        "MENAGERIE_PHOTOS": settings.root(),
        "MENAGERIE_STORE": settings.store,
        "MENAGERIE_ANIMALS": settings.animals,
        "MENAGERIE_HOST": settings.host,
        "MENAGERIE_AIRFLOW_PORT": settings.airflow_port,
        "MENAGERIE_MLFLOW_PORT": settings.mlflow_port,
        "MENAGERIE_PARALLELISM": settings.parallelism,
        "MENAGERIE_PRESET": settings.preset,
        "MENAGERIE_AIRFLOW_PAGE": settings.airflow_page,
        "MENAGERIE_MLFLOW_PAGE": settings.mlflow_page,
        "MENAGERIE_DAGS": settings.dags,
        "AIRFLOW_HOME": airflow,
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": settings.home / "keras",
        "MPLBACKEND": "agg",
        "PYTHONPATH": CHECKOUT,
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    options: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": settings.dags,
            "plugins_folder": CHECKOUT / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": settings.parallelism,
            "max_active_runs_per_dag": 2,
            "execution_api_server_url": f"{settings.airflow_url}/execution/",
            # Airflow's log servers listen on every address, so none is started (--skip-serve-logs). Logs are
            # read from the disk, and a task's host has no name, so that nobody asks it for them.
            "hostname_callable": "builtins.str",
            "fernet_key": keys["fernet_key"],
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": _passwords_file(settings),
        },
        # The time that a writer waits for another; a busy machine needs more than SQLite's 5 seconds.
        "database": {"sql_alchemy_conn": f"{database_url(database(settings))}?timeout=60"},
        "api": {
            "host": settings.host,
            "port": settings.airflow_port,
            "base_url": settings.airflow_link,
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
            # For as long does a task keep its place after it has ended, and a question that was answered meanwhile may
            # be asked again: its first process is then taken for one that was killed (5 seconds by default).
            "min_heartbeat_interval": 1,
        },
        "scheduler": {
            "orphaned_tasks_check_interval": 30,
            # The token to start with is valid for as long: a task that waits longer for a free core dies of it.
            "task_queued_timeout": 48 * 3600,
        },
        # Used by a CeleryExecutor. A task that runs for longer than the broker waits for it would be given out again.
        "celery": {"worker_concurrency": settings.parallelism},
        "celery_broker_transport_options": {"visibility_timeout": 48 * 3600},
        "dag_processor": {
            "refresh_interval": 10,
            "min_file_process_interval": 45,  # so a new animal has its DAG within a minute
            "dag_bundle_storage_path": airflow / "bundles",
        },
        "logging": {
            "base_log_folder": settings.home / "logs" / "tasks",
            "dag_processor_child_process_log_directory": settings.home / "logs" / "dags",
            "colored_console_log": False,
        },
    }
    others: dict[str, object] = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "GX_ANALYTICS_ENABLED": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # several tasks may share a GPU: none takes all of its memory at once
        "GIT_PYTHON_REFRESH": "quiet",
        # Two tasks of one thread each do more than two that share two: threads wait for each other.
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        # oneDNN's convolutions take half the time. Without being told, TensorFlow keeps them for newer processors.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        # Convolutions multiply in bfloat16, and add in float32, on processors that have instructions for it; trainings
        # for which it pays are in mixed precision there (`ml.devices`).
        "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    }
    variables = {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, named in options.items()
        for name, value in named.items()
    }
    if settings.owns_mlflow:
        others["MLFLOW_SERVER_ALLOWED_HOSTS"] = mlflow_server.allowed_hosts(settings)
        ours |= mlflow_server.variables(settings, login)
    theirs = inherited(os.environ, settings.owns_mlflow)
    return {name: str(value) for name, value in (variables | others | theirs | ours | _without_proxy(settings)).items()}


def adopt(settings: Settings) -> None:
    """Let this process compute, and talk to MLflow, as a task of the stack does, but on all cores."""
    variables = environment(settings.model_copy(update={"parallelism": 1}))
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def password(settings: Settings) -> str:
    """Return the password of Airflow's user; it is made on the first call."""
    return kept(_passwords_file(settings), lambda: {USER: secrets.token_urlsafe(12)})[USER]


def database(settings: Settings) -> Path:
    """Return where the local Airflow keeps its SQLite database."""
    return settings.home / "airflow" / "airflow.db"


def _keys(folder: Path) -> dict[str, str]:
    def make() -> dict[str, str]:
        return {
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_urlsafe(32),
            "jwt_secret": secrets.token_urlsafe(64),
        }

    return kept(folder / "keys.json", make)


def _passwords_file(settings: Settings) -> Path:
    return settings.home / "airflow" / "passwords.json"


def _without_proxy(settings: Settings) -> dict[str, str]:
    """Return the variables by which nothing on this machine is reached through a proxy, added to those that are set."""
    theirs = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [theirs, "localhost", "127.0.0.1", settings.host]
    value = "*" if "*" in theirs.replace(" ", "").split(",") else ",".join(dict.fromkeys(filter(None, hosts)))
    return {"no_proxy": value, "NO_PROXY": value}
