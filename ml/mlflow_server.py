"""The MLflow server of the local stack: its command, its login, and the variables that it and its clients run with."""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from ml.addresses import is_local
from ml.errors import StorageError
from ml.keys import database_url, kept
from ml.settings import Settings

USER = "admin"


def command(settings: Settings) -> list[str]:
    """Return what starts the server: with a login, on SQLite, its artifacts below the home folder."""
    return [
        *("mlflow", "server", "--host", settings.host, "--port", str(settings.mlflow_port), "--workers", "1"),
        *("--app-name", "basic-auth"),
        *("--backend-store-uri", database_url(database(settings))),
        *("--artifacts-destination", str(_folder(settings) / "artifacts")),
    ]


def migration(settings: Settings) -> list[str]:
    """Return what brings an existing database to the schema of the installed MLflow; the users' migrates by itself."""
    return ["mlflow", "db", "upgrade", database_url(database(settings))]


def database(settings: Settings) -> Path:
    """Return where the server keeps runs and registered models."""
    return _folder(settings) / "mlflow.db"


def login(settings: Settings, password: str = "") -> tuple[str, str] | None:
    """Return user and password for MLflow at `settings.mlflow_uri`, or `None` if it asks for none.

    That of another server comes from the settings. That of our own is made on the first call, with the given
    `password` or a random one, and kept for its owner alone.

    Raises:
        StorageError: the server knows a password, and the file that holds it is gone.
    """
    if not settings.owns_mlflow:
        return settings.mlflow_login
    file = login_file(settings)
    if not file.exists() and (users := _users(settings)).exists():
        raise StorageError(
            f"Expected the login of MLflow in {file}. Received: nothing there. Restore it from a backup, or remove "
            f"{users} too: MLflow's users are then made again, the administrator with a new password."
        )
    return USER, kept(file, lambda: {USER: password or secrets.token_urlsafe(12)})[USER]


def login_file(settings: Settings) -> Path:
    """Return where the login of our own server is kept."""
    return _folder(settings) / "login.json"


def client(settings: Settings, path: str = "") -> httpx.Client:
    """Return an HTTP client of MLflow below `path`, logged in. Only a server elsewhere is reached through a proxy."""
    elsewhere = not (settings.owns_mlflow or is_local(settings.mlflow_uri))
    url = f"{settings.mlflow_uri}{path}"
    return httpx.Client(base_url=url, auth=login(settings), timeout=10.0, trust_env=elsewhere)


def variables(settings: Settings, password: str) -> dict[str, str]:
    """Return the variables of our own server, and of the clients that log in to it with the first user's `password`."""
    user, password = login(settings, password) or ("", "")
    keys = kept(_folder(settings) / "keys.json", lambda: {"secret_key": secrets.token_urlsafe(32)})
    return {
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_AUTH_CONFIG_PATH": str(_configuration(settings)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": keys["secret_key"],
    }


def allowed_hosts(settings: Settings) -> str:
    """Return the names that our own server answers to: those of this machine, and those that its links begin with.

    So no web page reaches it by giving its own name this machine's address (DNS rebinding), which the private
    networks that MLFLOW_SERVER_ALLOWED_HOSTS has by default allow: they match `10.example.org`, too.
    """
    hosts = {"localhost", "127.0.0.1", settings.host, urlsplit(settings.mlflow_link).hostname or ""} - {"0.0.0.0", ""}
    return ",".join(f"{host}{port}" for host in sorted(hosts) for port in ("", ":*"))


def _configuration(settings: Settings) -> Path:
    """Write the configuration of the server's users, and return its file: a new user may read, and no more."""
    file = _folder(settings) / "auth.ini"
    lines = [
        "[mlflow]",
        f"database_uri = {database_url(_users(settings))}".replace("%", "%%"),
        "default_permission = READ",
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds = 60",  # hashing a password takes longer than most requests
    ]
    text = "\n".join(lines) + "\n"
    try:
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as error:
        raise StorageError(f"Expected to write {file}. Received: {error}") from error
    return file


def _users(settings: Settings) -> Path:
    return _folder(settings) / "users.db"


def _folder(settings: Settings) -> Path:
    return settings.home / "mlflow"
