"""Where things are: read from the environment when asked, never at import."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources.utils import parse_env_vars

from ml.addresses import is_local
from ml.errors import ParameterError
from ml.presets import PresetName

PREFIX = "MENAGERIE_"
SMTP = re.compile(r"smtps?://[^/?\s]+(\?from=[^&\s]+)?")
ADDRESS = re.compile(r"https?://[^/\s]+\S*|mailto:[^@\s]+@[^@\s]+")
OBJECTS = re.compile(r"[a-z][a-z0-9]*://(?!\.{1,2}(/|$)|~)[^/\s]+(/(?!\.{1,2}(/|$))[^/]+)*")
OBJECTS_EXAMPLE = "such as s3://bucket/folder or gs://bucket/folder"
SERVICE_LINK = re.compile(r"_SERVICE_HOST=|_SERVICE_PORT(_\w+)?=|_PORT_\d+_\w+=|_PORT=(tcp|udp|sctp)://")
"""Variables by which Kubernetes names the services of a namespace; their names may begin with MENAGERIE_, too."""

CHECKOUT = Path(__file__).resolve().parents[1]


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError("it doesn't match")  # the error that a person reads is the field's description
        return text

    return AfterValidator(check)


def _without_slash(url: str) -> str:
    return url.rstrip("/")


def _addresses(text: Any) -> Any:
    """Return the addresses in a list with blanks between them; "log" is the Airflow log, which is always written."""
    return [address for address in text.split() if address != "log"] if isinstance(text, str) else text


def _words(text: Any) -> Any:
    return text.split() if isinstance(text, str) else text


def _between_semicolons(text: Any) -> Any:
    return [part.strip().rstrip("/") for part in text.split(";") if part.strip()] if isinstance(text, str) else text


# What each description says is what an error expects.
Folder = Annotated[Path, AfterValidator(Path.absolute), Field(description="a path")]
Page = Annotated[str, AfterValidator(_without_slash), Field(description="a URL")]
Objects = Annotated[str, AfterValidator(lambda url: _objects(url) if url else url)]
Port = Annotated[int, Field(ge=1, le=65535, description="a whole number from 1 to 65535")]
Address = Annotated[str, _matching(ADDRESS)]


class Settings(BaseSettings):
    """Folders, addresses and limits of one installation.

    Each field is the variable `MENAGERIE_<FIELD>`, unless it has an alias. An empty variable counts as not set. `read`
    makes them.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True)

    home: Folder = CHECKOUT / "var"
    """Everything that is written: photos fetched or drawn, manifests, caches, databases, logs."""
    photos_root: str = Field("", validation_alias=f"{PREFIX}PHOTOS", description=OBJECTS_EXAMPLE)
    """Where the photos are: a folder, or a URL in an object store; empty is the folder of the drawings."""
    protocols: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        ("s3", "gs"), description="protocols of URLs with blanks between them, such as s3 gs abfs"
    )
    """Object stores whose photos may be named when a DAG is triggered, besides that of `photos_root`."""
    photo_folders: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_between_semicolons)] = Field(
        (), description="folders and URLs with semicolons between them"
    )
    """In which the photos must lie that are named when a DAG is triggered, besides `photos_root`; empty is anywhere."""
    store: Objects = Field("", description=OBJECTS_EXAMPLE)
    """The object store of machines that have no volume in common: see `ml.data.store`."""
    animals: Folder = CHECKOUT / "animals.toml"
    """The table of animals."""
    dags: Folder = CHECKOUT / "dags"
    """The folder of the DAG files."""
    host: str = Field("127.0.0.1", description="an address of this machine")
    """Address that the servers listen on; 0.0.0.0 is every address."""
    airflow_port: Port = 8080
    mlflow_port: Port = 5000
    mlflow_uri: str = Field("", validation_alias="MLFLOW_TRACKING_URI", validate_default=True, description="a URL")
    """Address of the MLflow server, as clients on this machine reach it."""
    parallelism: int = Field(
        max(1, min(os.cpu_count() or 1, 8)), ge=1, le=64, description="a whole number from 1 to 64"
    )
    """Airflow tasks that run at once; each may hold TensorFlow (about 1 GB)."""
    task_hours: int = Field(24, ge=1, le=1000, description="a whole number from 1 to 1000")
    """Hours after which a task that has not ended is stopped, and counts as failed."""
    preset: PresetName = Field("standard", description="one of quick, standard, thorough")
    """How much a retraining tries unless the animal's table or the run says otherwise: see `ml.params`."""
    gpu_queue: str = "default"
    """The queue of the tasks that train; "default", Airflow's own, is that of all tasks."""
    gpus: Annotated[int | None, BeforeValidator(lambda value: None if value == "all" else value)] = Field(
        1, ge=1, le=64, description="a whole number from 1 to 64, or all"
    )
    """GPUs that one training may use at once; `None` is all of its machine's."""
    notify: Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_addresses)] = Field(
        (),
        repr=False,
        description="addresses such as https://host/path and mailto:me@host, with blanks between them, or log",
    )
    """Who is notified of failures and open questions: URLs that take a POST, and `mailto:` addresses."""
    smtp: Annotated[str, _matching(SMTP)] = Field(
        "smtp://localhost",
        repr=False,
        description="such as smtp://user:password@host:587?from=me@host or smtps://host",
    )
    """The server that takes mail: `smtp[s]://[user:password@]host[:port][?from=address]`."""
    airflow_page: Page = ""
    """Address of Airflow in a browser, if it is not `airflow_url`."""
    mlflow_page: Page = ""
    """Address of MLflow in a browser, if it is not `mlflow_uri`."""
    mlflow_user: str = Field("", validation_alias="MLFLOW_TRACKING_USERNAME")
    mlflow_password: str = Field("", validation_alias="MLFLOW_TRACKING_PASSWORD", repr=False)
    """User and password that MLflow asks for; empty if it asks for none, or is the stack's own."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone, so that what `read` is given is all that counts."""
        return (init_settings,)

    @field_validator("photos_root")
    @classmethod
    def _folder_or_objects(cls, address: str) -> str:
        return _objects(address) if "://" in address else address

    @field_validator("mlflow_uri")
    @classmethod
    def _named_as_own(cls, uri: str, info: ValidationInfo) -> str:
        if not {"host", "mlflow_port"} <= info.data.keys():
            return uri  # one of them is wrong, which is the error to show
        return _server(uri, _url(info.data["host"], info.data["mlflow_port"]))

    @property
    def photos(self) -> Path:
        """Root of the photo folders that are validated and trained on; if they are in an object store, their copy."""
        return self.local(self.photos_root or str(self.home / "drawings"))

    @property
    def photos_url(self) -> str:
        """Where the photos are if not on a disk: in an object store, `s3://bucket/folder`."""
        return self.photos_root if "://" in self.photos_root else ""

    @property
    def mlflow_login(self) -> tuple[str, str] | None:
        """User and password that MLflow asks for."""
        return (self.mlflow_user, self.mlflow_password) if self.mlflow_user else None

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
            ParameterError: it is a URL of no object store, or not among `protocols` or in `photo_folders`.
        """
        address = named or self.photos_root or str(self.photos)
        try:
            root = _objects(address) if "://" in address else str(self.local(address))
        except ValueError as error:
            raise ParameterError(f"A URL of photos must be {error}") from None
        if named:
            self._refuse_root(root)
        return root

    def _refuse_root(self, root: str) -> None:
        """Raise ParameterError where whoever triggers a DAG may not have it read `root`."""
        own = self.photos_root or str(self.photos)
        protocol, is_url, _ = root.partition("://")
        if is_url and protocol not in {*self.protocols, own.partition("://")[0]}:
            raise ParameterError(
                f"Photos may be read from {', '.join(f'{each}://' for each in self.protocols)}, or what else "
                f"MENAGERIE_PROTOCOLS names. Received: {root}"
            )
        if self.photo_folders and not any(_lies_in(root, folder) for folder in (*self.photo_folders, own)):
            raise ParameterError(
                f"Photos must lie in one of the folders that MENAGERIE_PHOTO_FOLDERS names: "
                f"{'; '.join(self.photo_folders)}. Received: {root}"
            )

    def local(self, address: str) -> Path:
        """Return where on this machine the file or folder at `address` is, a path, or comes to from there, a URL."""
        protocol, is_url, rest = address.partition("://")
        return self.home / "mirrors" / protocol / rest if is_url else Path(address).expanduser().absolute()

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"


class _Variables(EnvSettingsSource):
    """The settings among the variables of an environment, which need not be this process's."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self.environment, ignore_empty=True)


def variables() -> dict[str, str]:
    """Return the variable of each field of the settings."""
    return {name: str(field.validation_alias or PREFIX + name.upper()) for name, field in Settings.model_fields.items()}


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `environment` (default: the process's own) describes.

    Raises:
        ParameterError: a port or another number is not a whole one in its range, an address is none, or a variable that
            begins with `MENAGERIE_` is unknown.
    """
    env = os.environ if environment is None else environment
    _refuse_unknown(name for name, value in env.items() if not SERVICE_LINK.search(f"{name}={value}"))
    try:
        return Settings(**_Variables(env)())
    except ValidationError as error:
        wrong = {fault["loc"][0] for fault in error.errors()}
        refusals = [_refusal(*each, env) for each in variables().items() if wrong & {*each}]
        raise ParameterError(" ".join(refusals)) from None


def _refusal(name: str, variable: str, env: Mapping[str, str]) -> str:
    field = Settings.model_fields[name]
    received = repr(env[variable]) if field.repr else "something else"  # that may hold a password
    return f"{variable} must be {field.description}. Received: {received}."


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


def _lies_in(root: str, folder: str) -> bool:
    """Whether a folder of photos is another or in it, links followed."""
    if "://" in root or "://" in folder:
        return f"{root}/".startswith(f"{folder}/")
    return Path(root).resolve().is_relative_to(Path(folder).expanduser().resolve())


def _objects(text: str) -> str:
    """Return the URL of objects, without a slash at its end."""
    if not OBJECTS.fullmatch(url := text.rstrip("/")):
        raise ValueError(f"{OBJECTS_EXAMPLE}. Received: {text!r}")
    return url


def _refuse_unknown(names: Iterable[str]) -> None:
    """Raise ParameterError where a variable looks like a setting and is none: it would have no effect."""
    known = [variable.removeprefix(PREFIX) for variable in variables().values() if variable.startswith(PREFIX)]
    for name in sorted(names):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
            near = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1)
            listed = ", ".join(sorted(PREFIX + each for each in known))
            advice = f"Did you mean {PREFIX}{near[0]}?" if near else f"Settings: {listed}."
            raise ParameterError(f"{name} is not a setting of Menagerie. {advice}")
