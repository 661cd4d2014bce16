"""MLflow: runs, pictures, tables, models. The only module that talks to it.

A DAG run is one parent run in its animal's experiment, a stage is its child, a fold or a trial is the stage's child. A
stage that ended well carries its `StageResult`, so that the same work is found again instead of done again.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd

from ml.errors import ServiceError
from ml.results import DagRun, StageResult

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHAMPION, CHALLENGER = "champion", "challenger"
_PARENT = "mlflow.parentRunId"
_TAG = "menagerie."


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


class StageRun:
    """An open run of one stage: everything it leaves goes through here."""

    def __init__(self, client: "MlflowClient", run_id: str, experiment_id: str) -> None:
        self.id = run_id
        self._client = client
        self._experiment_id = experiment_id

    def log(self, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
        """Log single numbers and settings, in one call."""
        _log_batch(self._client, self.id, [(k, v, 0) for k, v in (metrics or {}).items()], params)

    def child(self, name: str, metrics: Mapping[str, float], curves: Mapping[str, list[float]] | None = None) -> None:
        """Log a fold or a trial as a finished run of its own: its numbers, and its curves (one value an epoch)."""
        tags = {_PARENT: self.id, _TAG + "stage": name.split(maxsplit=1)[0]}
        run = self._client.create_run(self._experiment_id, run_name=name, tags=tags)
        points = [
            (metric, value, step) for metric, values in (curves or {}).items() for step, value in enumerate(values)
        ]
        _log_batch(self._client, run.info.run_id, [*((k, v, 0) for k, v in metrics.items()), *points])
        self._client.set_terminated(run.info.run_id)

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a picture as `plots/<name>.png`."""
        self._client.log_figure(self.id, figure, f"plots/{name}.png", save_kwargs={"dpi": 130})

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Keep a table as `tables/<name>.csv`."""
        self._client.log_text(self.id, table.to_csv(index=False), f"tables/{name}.csv")

    def text(self, path: str, text: str) -> None:
        self._client.log_text(self.id, text, path)

    def file(self, path: Path, folder: str) -> None:
        self._client.log_artifact(self.id, str(path), folder)

    def tag(self, name: str, value: str) -> None:
        self._client.set_tag(self.id, _TAG + name, value)

    def register(self, model: "keras.Model", name: str, tags: Mapping[str, str], description: str) -> RegisteredVersion:
        """Log a classifier and register it as a new version of `name`; return the version, without any alias."""
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        shape = tuple(-1 if size is None else size for size in model.input_shape)
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), shape)]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1))]),
        )
        # Given requirements keep MLflow from loading the model once more in a subprocess, 25 seconds, to guess them.
        wanted = [f"{package}=={version(package)}" for package in ("keras", "numpy")]
        wanted.append(f"tensorflow=={version(_tensorflow_package())}")
        with mlflow.start_run(run_id=self.id):
            info = mlflow.keras.log_model(model, name="model", signature=signature, pip_requirements=wanted)
        self._client.set_terminated(self.id, "RUNNING")
        made = mlflow.register_model(info.model_uri, name, tags=dict(tags))
        self._client.update_model_version(name, made.version, description)
        return RegisteredVersion(name, str(made.version), self.id, dict(tags))


class Tracker:
    """A connection to one MLflow server."""

    def __init__(self, uri: str) -> None:
        """Connect to the server at `uri`.

        Raises:
            ServiceError: nothing healthy answers there.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.uri = uri
        if uri.startswith("http"):
            try:
                httpx.get(f"{uri}/health", timeout=10).raise_for_status()
            except httpx.HTTPError as error:
                raise ServiceError(
                    f"Expected an MLflow server at {uri}. Received: {error}. "
                    "Start it (make up), or set MLFLOW_TRACKING_URI."
                ) from error

    @cached_property
    def client(self) -> "MlflowClient":
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return mlflow.MlflowClient(self.uri)

    def open_run(
        self, animal: str, dag_run: DagRun, digest: str, params: Mapping[str, Any], validation_run: str = ""
    ) -> str:
        """Return the parent run of a DAG run, made or, if the task is tried again, found.

        Its description links to the DAG run in Airflow, and to the validation of its photos.
        """
        experiment = self._experiment(animal)
        found = self._search(experiment, {"dag_id": dag_run.dag_id, "dag_run_id": dag_run.run_id}, parent=None)
        if found:
            run_id = found[0].info.run_id
            self.client.set_terminated(run_id, "RUNNING")
            return run_id
        tags = {
            _TAG + "dag_id": dag_run.dag_id,
            _TAG + "dag_run_id": dag_run.run_id,
            _TAG + "dataset": digest,
            _TAG + "code": version("menagerie"),
            "mlflow.note.content": self._description(dag_run, validation_run),
        }
        run = self.client.create_run(experiment, run_name=f"{dag_run.dag_id} {dag_run.run_id}", tags=tags)
        _log_batch(self.client, run.info.run_id, [], {**params, "dataset_digest": digest})
        return run.info.run_id

    def close_run(self, run_id: str, succeeded: bool, reason: str = "") -> None:
        if reason:
            self.client.set_tag(run_id, _TAG + "reason", reason[:4000])
        self.client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def find(self, animal: str, stage: str, key: str) -> StageResult | None:
        """Return what a finished run of the same stage with the same `key` found, if there is one."""
        for run in self._search(self._experiment(animal), {"stage": stage, "key": key}, status="FINISHED"):
            with tempfile.TemporaryDirectory() as folder:
                file = self.client.download_artifacts(run.info.run_id, "result.json", folder)
                return replace(StageResult.from_dict(json.loads(Path(file).read_text())), reused=True)
        return None

    @contextmanager
    def stage(self, animal: str, parent: str, stage: str, key: str) -> Iterator[StageRun]:
        """Open the stage's run under `parent`; it ends FINISHED or, with the error as its reason, FAILED.

        A run that an earlier try of the same work left unfinished is taken up again, without the children it had.
        """
        experiment = self._experiment(animal)
        earlier = self._search(experiment, {"stage": stage, "key": key}, parent=parent)
        if earlier:
            run_id = earlier[0].info.run_id
            for child in self._search(experiment, {}, parent=run_id):
                self.client.delete_run(child.info.run_id)
            self.client.set_terminated(run_id, "RUNNING")
        else:
            tags = {_PARENT: parent, _TAG + "stage": stage, _TAG + "key": key, _TAG + "code": version("menagerie")}
            run_id = self.client.create_run(experiment, run_name=stage, tags=tags).info.run_id
        try:
            yield StageRun(self.client, run_id, experiment)
        except BaseException as error:
            self.close_run(run_id, False, f"{type(error).__name__}: {error}")
            raise
        self.client.set_terminated(run_id, "FINISHED")

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        _log_batch(self.client, run_id, [(name, value, 0) for name, value in metrics.items()])

    def keep_result(self, result: StageResult) -> None:
        """Keep a stage's result with its run: the last thing before the run ends."""
        self.client.log_text(result.run_id, json.dumps(result.to_dict(), indent=1), "result.json")

    def link(self, parent: str, result: StageResult) -> None:
        """Note under the parent run which run holds the stage's outcome, so that reused ones are found too."""
        self.client.set_tag(parent, f"{_TAG}stage.{result.stage}", result.run_id)

    def read_table(self, run_id: str, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv` of a run."""
        with tempfile.TemporaryDirectory() as folder:
            return pd.read_csv(self.client.download_artifacts(run_id, f"tables/{name}.csv", folder))

    def pictures(self, run_id: str) -> dict[str, bytes]:
        """Return the PNG files of a run's `plots`, by name."""
        with tempfile.TemporaryDirectory() as folder:
            if not self.client.list_artifacts(run_id, "plots"):
                return {}
            plots = Path(self.client.download_artifacts(run_id, "plots", folder))
            return {file.stem: file.read_bytes() for file in sorted(plots.glob("*.png"))}

    def champion(self, name: str) -> RegisteredVersion | None:
        """Return the version of the registered model `name` that is the champion, if there is one."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version_by_alias(name, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return RegisteredVersion(name, str(found.version), found.run_id, dict(found.tags))

    def registered_by(self, name: str, dag_run: str) -> RegisteredVersion | None:
        """Return the version of `name` that a DAG run (its MLflow run) has registered already, if it has."""
        for made in self.client.search_model_versions(f"name = '{name}'"):
            if made.tags.get("dag_run") == dag_run:
                return RegisteredVersion(name, str(made.version), made.run_id, dict(made.tags))
        return None

    def set_alias(self, registered: RegisteredVersion, alias: str) -> None:
        self.client.set_registered_model_alias(registered.name, alias, registered.version)

    def drop_alias(self, registered: RegisteredVersion, alias: str) -> None:
        self.client.delete_registered_model_alias(registered.name, alias)

    def load_model(self, registered: RegisteredVersion) -> "keras.Model":
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return mlflow.keras.load_model(registered.uri)

    def run_url(self, run_id: str) -> str:
        run = self.client.get_run(run_id)
        return f"{self.uri}/#/experiments/{run.info.experiment_id}/runs/{run_id}"

    def _description(self, dag_run: DagRun, validation_run: str) -> str:
        links = {"The DAG run in Airflow": dag_run.url}
        if validation_run:
            links["The validation of its photos, with Data Docs"] = self.run_url(validation_run)
        return "\n\n".join(f"[{text}]({url})" for text, url in links.items() if url)

    def _experiment(self, animal: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(animal)
        if found:
            return found.experiment_id
        try:
            return self.client.create_experiment(animal)
        except MlflowException:  # another task made it in the meantime
            found = self.client.get_experiment_by_name(animal)
            if not found:
                raise
            return found.experiment_id

    def _search(
        self, experiment: str, tags: Mapping[str, str], parent: str | None = None, status: str | None = None
    ) -> list["Run"]:
        clauses = [f"tags.`{_TAG}{name}` = '{value}'" for name, value in tags.items()]
        if parent:
            clauses.append(f"tags.`{_PARENT}` = '{parent}'")
        if status:
            clauses.append(f"attributes.status = '{status}'")
        return list(self.client.search_runs([experiment], " and ".join(clauses), max_results=200))


def work_key(stage: str, digest: str, params: Mapping[str, Any]) -> str:
    """Return the 16 hex digits that name a stage's work: its dataset, its settings and the version of this code."""
    content = json.dumps([stage, digest, dict(params), version("menagerie")], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _log_batch(
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


def _tensorflow_package() -> str:
    from importlib.metadata import packages_distributions

    return packages_distributions()["tensorflow"][0]
