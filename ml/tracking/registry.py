"""The model registry: versions of registered models, and the aliases that say which of them is used."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import LostError, ParameterError
from ml.tracking import networks
from ml.tracking.artifacts import is_gone

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.types import Schema

CHAMPION, CHALLENGER = "champion", "challenger"
FOLDER, NETWORK = "data", "data/model.keras"
"""Where MLflow puts the network among the files of a version. Nothing else of them is read."""
CHECKSUM = "sha256"
NEEDED = {"classifier": ("dag_run", "dataset", "padding", "complexity"), "gan": ("dag_run", "generator")}
"""Tags of a version without which it can't be champion, by the end of the model's name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the model registry, and the run that it came from."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]

    def __str__(self) -> str:
        return f"Version {self.version} of {self.name}"

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def padding(self) -> tuple[int, int, int] | None:
        """How a classifier takes its photos: the colour around them; `None` if they are stretched."""
        red_green_blue = json.loads(self.tags["padding"])
        return tuple(red_green_blue) if red_green_blue else None

    @property
    def complexity(self) -> float:
        """Multiply-adds of a classifier for one photo, in millions."""
        return float(self.tags["complexity"])

    @property
    def remedy(self) -> str:
        """What a person does about a version that can't be used."""
        return (
            f"Make another version the champion: menagerie champion {self.name} VERSION. Or none, and the next run "
            f"makes one: menagerie champion {self.name} none."
        )


def register(
    model: "keras.Model", name: str, run_id: str, tags: Mapping[str, str], description: str
) -> RegisteredVersion:
    """Log a model of one input and one output with a run, and register it as a new version of `name`.

    Returns the version, without any alias. Its signature has the types and shapes of the model's two ends; the tag
    `sha256` is that of its Keras file as it was written here.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature

    written: dict[str, str] = {}

    class Flavor:
        """MLflow's for Keras, whose file is hashed before it leaves."""

        @staticmethod
        def save_model(path: str, **options: Any) -> None:
            mlflow.keras.save_model(path=path, **options)
            written[CHECKSUM] = networks.checksum(Path(path, NETWORK))

    Flavor.__name__ = "mlflow.keras"
    # Given requirements keep MLflow from loading the model once more in a subprocess, 25 seconds, to guess them.
    wanted = [f"{package}=={version(package)}" for package in ("keras", "numpy")]
    wanted.append(f"tensorflow=={version(packages_distributions()['tensorflow'][0])}")
    signature = ModelSignature(inputs=_schema(model.input), outputs=_schema(model.output))
    with mlflow.start_run(run_id=run_id):
        info = Model.log(
            artifact_path=None, name="model", flavor=Flavor, model=model, signature=signature, pip_requirements=wanted
        )
    tags = {**tags, **written}
    made = mlflow.register_model(info.model_uri, name, tags=tags)
    mlflow.MlflowClient().update_model_version(name, made.version, description)
    return RegisteredVersion(name, str(made.version), run_id, tags)


def champion(client: "MlflowClient", name: str) -> RegisteredVersion | None:
    """Return the version of the registered model `name` that is the champion, if there is one.

    Raises:
        LostError: it lacks tags that Menagerie's versions have.
    """
    found = champion_unchecked(client, name)
    if found:
        _check_tags(found)
    return found


def champion_unchecked(client: "MlflowClient", name: str) -> RegisteredVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version_by_alias(name, CHAMPION))
    except MlflowException as error:
        if is_gone(error):
            return None
        raise


def registered_by(client: "MlflowClient", name: str, dag_run: str) -> RegisteredVersion | None:
    """Return the version of `name` that a DAG run (its MLflow run) has registered already, if it has."""
    made = client.search_model_versions(f"name = '{name}'")
    return next((_version(one) for one in made if one.tags.get("dag_run") == dag_run), None)


def load_model(registered: RegisteredVersion) -> "keras.Model":
    """Load a version's network; no code of the registry runs. See `ml.tracking.networks.load`.

    Raises:
        LostError: the file is gone, damaged or replaced, or Keras doesn't load it in safe mode.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = _download(registered, folder)
        return networks.load(file, registered.tags.get(CHECKSUM), str(registered), registered.remedy)


def choose(client: "MlflowClient", name: str, number: str) -> RegisteredVersion | None:
    """Make a version the champion, after loading it; or, where `number` is `none`, take the alias away.

    A version without checksum gets that of its file as it is now.

    Raises:
        ParameterError: there is no such version.
        LostError: it can't be used.
    """
    from mlflow.exceptions import MlflowException

    if number == "none":
        client.delete_registered_model_alias(name, CHAMPION)
        return None
    try:
        chosen = _version(client.get_model_version(name, number))
    except MlflowException as error:
        if not is_gone(error):
            raise
        known = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
        raise ParameterError(
            f"Expected a version of {name}: {', '.join(map(str, known)) or 'it has none'}. Received: {number}."
        ) from error
    _check_tags(chosen)
    load_model(chosen)
    if CHECKSUM not in chosen.tags:
        with tempfile.TemporaryDirectory() as folder:
            client.set_model_version_tag(name, chosen.version, CHECKSUM, networks.checksum(_download(chosen, folder)))
    client.set_registered_model_alias(name, CHAMPION, chosen.version)
    return chosen


def _download(registered: RegisteredVersion, folder: str) -> Path:
    """Fetch the network's file and nothing else."""
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        there = {file.path: file for file in artifacts.list_artifacts(f"{registered.uri}/{FOLDER}")}
    except MlflowException as error:
        if not is_gone(error):
            raise
        there = {}
    found = there.get(NETWORK)
    if found is None or found.is_dir or (found.file_size or 0) > networks.LARGEST:
        received = f"{found.file_size:,} bytes" if found and found.file_size else ", ".join(there) or "no file"
        raise LostError(
            f"{registered} can't be used: expected the file {NETWORK} of at most {networks.LARGEST:,} bytes. "
            f"Received: {received}. {registered.remedy}"
        )
    return Path(artifacts.download_artifacts(f"{registered.uri}/{NETWORK}", dst_path=folder))


def _check_tags(registered: RegisteredVersion) -> None:
    needed = NEEDED.get(registered.name.rpartition("-")[2], ())
    missing = [name for name in needed if name not in registered.tags]
    if not missing and "padding" in needed:
        try:
            _ = registered.padding, registered.complexity
        except (TypeError, ValueError):
            missing = ["padding", "complexity"]
    if missing:
        raise LostError(
            f"{registered} is not one that a retraining registered: its tags {', '.join(missing)} are missing or "
            f"unreadable. {registered.remedy}"
        )


def _version(found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(found.name, str(found.version), found.run_id or "", dict(found.tags))


def _schema(end: "keras.KerasTensor") -> "Schema":
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(end.dtype), tuple(-1 if size is None else size for size in end.shape))])
