"""Where things are: read from the environment when asked, never at import."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from ml.addresses import is_local
from ml.errors import ParameterError
from ml.presets import PresetName

SMTP = re.compile(r"smtps?://[^/?\s]+(\?from=[^&\s]+)?")
ADDRESS = re.compile(r"https?://[^/\s]+\S*|mailto:[^@\s]+@[^@\s]+")
OBJECTS = re.compile(r"[a-z][a-z0-9]*://[^/\s]+(/(?!\.{1,2}(/|$))[^/]+)*")

VARIABLES = frozenset(
    f"MENAGERIE_{name}"
    for name in (
        *("HOME", "PHOTOS", "STORE", "ANIMALS", "DAGS", "HOST", "AIRFLOW_PORT", "MLFLOW_PORT", "PARALLELISM"),
        *("PRESET", "GPU_QUEUE", "GPUS", "NOTIFY", "SMTP", "AIRFLOW_PAGE", "MLFLOW_PAGE"),
    )
)
"""Every setting's name in the environment."""
SERVICE_LINK = re.compile(r"_SERVICE_HOST=|_SERVICE_PORT(_\w+)?=|_PORT_\d+_\w+=|_PORT=(tcp|udp|sctp)://")
"""Variables by which Kubernetes tells of the services of a namespace; theirs may be called menagerie, too."""

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """Folders, addresses and limits of one installation.

    Each field comes from the variable `MENAGERIE_<FIELD>`; what a user doesn't set lies under `home`.
    """

    home: Path
    """Everything that is written: photos fetched or drawn, manifests, caches, databases, logs."""
    photos: Path
    """Root of the photo folders that are validated and trained on; if they are at `photos_url`, where they come to."""
    animals: Path
    """The table of animals."""
    host: str
    """Address that the servers listen on; 0.0.0.0 is every address."""
    airflow_port: int
    mlflow_port: int
    mlflow_uri: str
    """Address of the MLflow server, as clients on this machine reach it."""
    parallelism: int
    """Airflow tasks that run at once; each may hold TensorFlow (about 1 GB)."""
    preset: PresetName
    """How much a retraining tries unless told otherwise: see `ml.params`."""
    gpu_queue: str = "default"
    """The queue of the tasks that train; "default", Airflow's own, is that of all tasks."""
    gpus: int | None = 1
    """GPUs that one training may use at once; `None` is all of its machine's."""
    photos_url: str = ""
    """Where the photos are if not on a disk: in an object store, `s3://bucket/folder`."""
    store: str = ""
    """The object store of machines that have no volume in common: see `ml.data.store`."""
    notify: tuple[str, ...] = field(default=(), repr=False)
    """Whom failures and open questions are told: URLs that take a POST, and `mailto:` addresses."""
    smtp: str = field(default="smtp://localhost", repr=False)
    """The server that takes mail: `smtp[s]://[user:password@]host[:port][?from=address]`."""
    airflow_page: str = ""
    """Address of Airflow in a browser, if it is not `airflow_url`."""
    mlflow_page: str = ""
    """Address of MLflow in a browser, if it is not `mlflow_uri`."""
    mlflow_login: tuple[str, str] | None = field(default=None, repr=False, compare=False)
    """User and password that MLflow asks for: `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`."""

    @property
    def airflow_url(self) -> str:
        return _url(self.host, self.airflow_port)

    @property
    def airflow_link(self) -> str:
        """What links to Airflow begin with."""
        return self.airflow_page or self.airflow_url

    @property
    def mlflow_link(self) -> str:
        """What links to MLflow begin with."""
        return self.mlflow_page or self.mlflow_uri

    @property
    def own_mlflow_uri(self) -> str:
        """Address of the MLflow server that the stack starts, unless `mlflow_uri` is another."""
        return _url(self.host, self.mlflow_port)

    @property
    def owns_mlflow(self) -> bool:
        """Whether the MLflow server is the stack's own, and not one that `MLFLOW_TRACKING_URI` names."""
        return self.mlflow_uri == self.own_mlflow_uri

    def root(self, named: str = "") -> str:
        """Return where photos are, those at `named` or else these settings' own: an absolute path, or a URL.

        Raises:
            ParameterError: it is a URL of no object store.
        """
        address = named or self.photos_url or str(self.photos)
        return _objects("A URL of photos", address) if "://" in address else str(self.local(address))

    def local(self, address: str) -> Path:
        """Return where on this machine the file or folder at `address` is, a path, or comes to from there, a URL."""
        return _local(self.home, address)

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `environment` (default: the process's own) describes.

    Raises:
        ParameterError: a port or another number is not a whole one in its range, an address is none, or a variable that
            begins with `MENAGERIE_` is unknown.
    """
    env = os.environ if environment is None else environment
    _refuse_unknown(name for name, value in env.items() if not SERVICE_LINK.search(f"{name}={value}"))
    home = Path(env.get("MENAGERIE_HOME") or CHECKOUT / "var").absolute()
    host = env.get("MENAGERIE_HOST") or "127.0.0.1"
    photos = env.get("MENAGERIE_PHOTOS") or str(home / "drawings")
    photos_url = _objects("MENAGERIE_PHOTOS", photos) if "://" in photos else ""
    mlflow_port = _whole_number(env, "MENAGERIE_MLFLOW_PORT", 5000, 1, 65535)
    user = env.get("MLFLOW_TRACKING_USERNAME")
    return Settings(
        home=home,
        photos=_local(home, photos_url or photos),
        photos_url=photos_url,
        store=_objects("MENAGERIE_STORE", env["MENAGERIE_STORE"]) if env.get("MENAGERIE_STORE") else "",
        animals=Path(env.get("MENAGERIE_ANIMALS") or CHECKOUT / "animals.toml").absolute(),
        host=host,
        airflow_port=_whole_number(env, "MENAGERIE_AIRFLOW_PORT", 8080, 1, 65535),
        mlflow_port=mlflow_port,
        mlflow_uri=_server(env.get("MLFLOW_TRACKING_URI") or "", _url(host, mlflow_port)),
        parallelism=_whole_number(env, "MENAGERIE_PARALLELISM", max(1, min(os.cpu_count() or 1, 8)), 1, 64),
        preset=_preset(env.get("MENAGERIE_PRESET") or "standard"),
        gpu_queue=env.get("MENAGERIE_GPU_QUEUE") or "default",
        gpus=None if env.get("MENAGERIE_GPUS") == "all" else _whole_number(env, "MENAGERIE_GPUS", 1, 1, 64, ", or all"),
        notify=_addresses(env.get("MENAGERIE_NOTIFY") or ""),
        smtp=_smtp(env.get("MENAGERIE_SMTP") or "smtp://localhost"),
        airflow_page=env.get("MENAGERIE_AIRFLOW_PAGE", "").rstrip("/"),
        mlflow_page=env.get("MENAGERIE_MLFLOW_PAGE", "").rstrip("/"),
        mlflow_login=(user, env.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
    )


def _url(host: str, port: int) -> str:
    """Return where a client on this machine, a browser too, finds a server that listens on `host`."""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def _server(uri: str, own: str) -> str:
    """Return the address of a server without a slash at its end; this machine's own one by whatever name as `own`."""
    uri = uri.strip().rstrip("/")
    try:
        named, ours = urlsplit(uri), urlsplit(own)
        is_ours = (named.scheme, named.port, named.path.strip("/")) == ("http", ours.port, "")
        is_ours &= is_local(uri) or named.hostname == ours.hostname
    except ValueError:  # no port has such a number
        is_ours = False
    return own if is_ours or not uri else uri


def _local(home: Path, address: str) -> Path:
    protocol, is_url, rest = address.partition("://")
    return home / "mirrors" / protocol / rest if is_url else Path(address).expanduser().absolute()


def _objects(name: str, text: str) -> str:
    """Return the URL of objects, without a slash at its end."""
    if not OBJECTS.fullmatch(url := text.rstrip("/")):
        raise ParameterError(f"{name} must be such as s3://bucket/folder or gs://bucket/folder. Received: {text!r}")
    return url


def _whole_number(env: Mapping[str, str], name: str, default: int, low: int, high: int, besides: str = "") -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ParameterError(f"{name} must be a whole number from {low} to {high}{besides}. Received: {name}={text!r}")
    return int(text)


def _preset(text: str) -> PresetName:
    for name in get_args(PresetName):
        if text == name:
            return name
    raise ParameterError(f"MENAGERIE_PRESET must be one of {', '.join(get_args(PresetName))}. Received: {text!r}")


def _refuse_unknown(names: Iterable[str]) -> None:
    """Raise ParameterError where a variable looks like a setting and is none: it would have no effect."""
    for name in sorted(names):
        if name.startswith("MENAGERIE_") and name not in VARIABLES:
            known = [variable.removeprefix("MENAGERIE_") for variable in VARIABLES]
            near = difflib.get_close_matches(name.removeprefix("MENAGERIE_"), known, 1)
            advice = f"Did you mean MENAGERIE_{near[0]}?" if near else f"Settings: {', '.join(sorted(VARIABLES))}."
            raise ParameterError(f"{name} is not a setting of Menagerie. {advice}")


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(address for address in text.split() if address != "log")
    for number, address in enumerate(addresses, 1):
        if not ADDRESS.fullmatch(address):
            raise ParameterError(
                "MENAGERIE_NOTIFY must be addresses such as https://host/path and mailto:me@host, with blanks between "
                f"them, or log. Received something else as address {number}."
            )
    return addresses


def _smtp(text: str) -> str:
    if not SMTP.fullmatch(text):
        raise ParameterError(
            "MENAGERIE_SMTP must be such as smtp://user:password@host:587?from=me@host or smtps://host. Received "
            "something else."  # and maybe a password
        )
    return text
