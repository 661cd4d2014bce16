"""An open run of one stage, and the calls that write to it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ml import progress
from ml.data.cells import guarded

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.types import Schema

PARENT = "mlflow.parentRunId"
TAG = "menagerie."


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the model registry, and the run that it came from."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def padding(self) -> tuple[int, int, int] | None:
        """How a classifier takes its photos: the colour around them; `None` if they are stretched."""
        red_green_blue = json.loads(self.tags["padding"])
        return tuple(red_green_blue) if red_green_blue else None


class StageRun:
    """An open run of one stage: everything it leaves goes through here."""

    def __init__(self, client: "MlflowClient", run_id: str, experiment_id: str) -> None:
        self.id = run_id
        self._client = client
        self._experiment_id = experiment_id

    def log(self, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
        """Log single numbers and settings, in one call."""
        log_batch(self._client, self.id, [(k, v, 0) for k, v in (metrics or {}).items()], params)

    def points(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a point of each of several curves, in one call."""
        log_batch(self._client, self.id, [(name, value, step) for name, value in metrics.items()])

    def child(
        self,
        name: str,
        metrics: Mapping[str, float],
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a fold or a trial as a finished run of its own: its numbers, curves (one value an epoch) and settings."""
        tags = {PARENT: self.id, TAG + "stage": name.split(maxsplit=1)[0]}
        run = self._client.create_run(self._experiment_id, run_name=name, tags=tags)
        points = [
            (metric, value, step) for metric, values in (curves or {}).items() for step, value in enumerate(values)
        ]
        log_batch(self._client, run.info.run_id, [*((k, v, 0) for k, v in metrics.items()), *points], params)
        self._client.set_terminated(run.info.run_id)

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a picture as `plots/<name>.png`."""
        self._client.log_figure(self.id, figure, f"plots/{name}.png", save_kwargs={"dpi": 130})

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Keep a table as `tables/<name>.csv`."""
        self._client.log_text(self.id, guarded(table).to_csv(index=False), f"tables/{name}.csv")

    def text(self, path: str, text: str) -> None:
        self._client.log_text(self.id, text, path)

    def file(self, path: Path, folder: str) -> None:
        self._client.log_artifact(self.id, str(path), folder)

    def tag(self, name: str, value: str) -> None:
        self._client.set_tag(self.id, TAG + name, value)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Keep the newest of what `ml.progress` is told in the block with the run, as a tag that goes when it ends."""
        from mlflow.exceptions import MlflowException

        try:
            with progress.reporting(lambda told: self.tag("progress", told.to_json())):
                yield
        finally:
            with suppress(MlflowException):  # where nothing was told there is none
                self._client.delete_tag(self.id, TAG + "progress")

    def register(self, model: "keras.Model", name: str, tags: Mapping[str, str], description: str) -> RegisteredVersion:
        """Log a model of one input and one output and register it as a new version of `name`.

        Returns the version, without any alias. Its signature has the types and shapes of the model's two ends.
        """
        import mlflow
        from mlflow.models import ModelSignature

        signature = ModelSignature(inputs=_schema(model.input), outputs=_schema(model.output))
        # Given requirements keep MLflow from loading the model once more in a subprocess, 25 seconds, to guess them.
        wanted = [f"{package}=={version(package)}" for package in ("keras", "numpy")]
        wanted.append(f"tensorflow=={version(_tensorflow_package())}")
        with mlflow.start_run(run_id=self.id):
            info = mlflow.keras.log_model(model, name="model", signature=signature, pip_requirements=wanted)
        self._client.set_terminated(self.id, "RUNNING")
        made = mlflow.register_model(info.model_uri, name, tags=dict(tags))
        self._client.update_model_version(name, made.version, description)
        return RegisteredVersion(name, str(made.version), self.id, dict(tags))


def log_batch(
    client: "MlflowClient",
    run_id: str,
    points: list[tuple[str, float, int]],
    params: Mapping[str, Any] | None = None,
) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, step) for name, value, step in points]
    settings = [Param(name, str(value)) for name, value in (params or {}).items()]
    client.log_batch(run_id, metrics[:1000], settings)
    for start in range(1000, len(metrics), 1000):
        client.log_batch(run_id, metrics[start : start + 1000])


def _schema(end: "keras.KerasTensor") -> "Schema":
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(end.dtype), tuple(-1 if size is None else size for size in end.shape))])


def _tensorflow_package() -> str:
    return packages_distributions()["tensorflow"][0]
