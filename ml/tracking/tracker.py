"""A connection to one MLflow server: experiments, runs of DAG runs and stages, and the model registry."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pandas as pd

from ml.errors import ServiceError
from ml.results import DagRun, StageResult
from ml.tracking.stage_run import PARENT, TAG, RegisteredVersion, StageRun, log_batch

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHAMPION, CHALLENGER = "champion", "challenger"
DESCRIPTION = "mlflow.note.content"
PAGE = 1000
ABANDONED = "it was killed, or its machine was (is there memory enough?): see the log of the task in Airflow"


class Judged(NamedTuple):
    """A stage that has judged a model."""

    stage: str
    digest: str
    """The dataset's; empty if it isn't known."""
    at: datetime


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
            TAG + "dag_id": dag_run.dag_id,
            TAG + "dag_run_id": dag_run.run_id,
            TAG + "dataset": digest,
            TAG + "key": run_key(digest, params),
            TAG + "code": version("menagerie"),
            DESCRIPTION: self._description(dag_run, validation_run),
        }
        run = self.client.create_run(experiment, run_name=f"{dag_run.dag_id} {dag_run.run_id}", tags=tags)
        log_batch(self.client, run.info.run_id, [], {**params, "dataset_digest": digest})
        return run.info.run_id

    def tag(self, run_id: str, name: str, value: str) -> None:
        self.client.set_tag(run_id, TAG + name, value)

    def close_run(self, run_id: str, succeeded: bool, reason: str = "") -> None:
        if reason:
            self.client.set_tag(run_id, TAG + "reason", reason[:4000])
        self.client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def fail_run(self, run_id: str, reason: str) -> None:
        """Close a run as FAILED, and so the runs of stages that it holds open although nothing works on them."""
        experiment = self.client.get_run(run_id).info.experiment_id
        for left in self._search(experiment, {}, parent=run_id, status="RUNNING"):
            self.close_run(left.info.run_id, False, ABANDONED)
        self.close_run(run_id, False, reason)

    def runs_of(self, dag_run: DagRun) -> "list[Run]":
        """Return the runs of a DAG run, of whatever animals."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        clauses = f"tags.`{TAG}dag_id` = '{dag_run.dag_id}' and tags.`{TAG}dag_run_id` = '{dag_run.run_id}'"
        return list(self.client.search_runs(experiments, clauses))

    def twin(self, animal: str, run_id: str) -> "Run | None":
        """Return the last run of a DAG run that finished with the same photos, choices and code as `run_id`'s."""
        key = self.client.get_run(run_id).data.tags[TAG + "key"]
        return next(iter(self._search(self._experiment(animal), {"key": key}, status="FINISHED")), None)

    def adopt(self, run_id: str, twin: "Run") -> None:
        """Give a run what its twin found: numbers, the runs of its stages, the report; and close it."""
        for name, value in twin.data.tags.items():
            if name.startswith(TAG + "stage.") or name == TAG + "champion":
                self.client.set_tag(run_id, name, value)
        self.client.set_tag(run_id, TAG + "twin", twin.info.run_id)
        with tempfile.TemporaryDirectory() as folder:
            report = self.client.download_artifacts(twin.info.run_id, "report.html", folder)
            self.client.log_artifact(run_id, report)
        self.log_metrics(run_id, twin.data.metrics)
        self.close_run(run_id, succeeded=True)

    def find(self, animal: str, stage: str, key: str) -> StageResult | None:
        """Return what a finished run of the same stage with the same `key` found, if there is one."""
        for run in self._search(self._experiment(animal), {"stage": stage, "key": key}, status="FINISHED"):
            with tempfile.TemporaryDirectory() as folder:
                file = self.client.download_artifacts(run.info.run_id, "result.json", folder)
                return replace(StageResult.from_dict(json.loads(Path(file).read_text())), reused=True)
        return None

    def last_finished(self, animal: str, stage: str) -> str | None:
        """Return the newest finished run of a stage, whatever its dataset and settings were."""
        found = self._search(self._experiment(animal), {"stage": stage}, status="FINISHED")
        return found[0].info.run_id if found else None

    def judged(self, animal: str) -> list[Judged]:
        """Return the finished stages that judged a model of an animal out of fold, without those that reused one."""
        datasets: dict[str, str] = {}
        found = []
        for run in self._search(self._experiment(animal), {}, status="FINISHED"):
            tags, parent = run.data.tags, run.data.tags.get(PARENT, "")
            if "cv_accuracy_mean" not in run.data.metrics or TAG + "stage" not in tags or not parent:
                continue
            if parent not in datasets:
                datasets[parent] = self.client.get_run(parent).data.tags.get(TAG + "dataset", "")
            at = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            found.append(Judged(tags[TAG + "stage"], datasets[parent], at))
        return found

    def promoted(self, name: str) -> list[RegisteredVersion]:
        """Return the versions of `name` that became champion when they were made."""
        from mlflow.exceptions import MlflowException

        found = []
        for made in self.client.search_model_versions(f"name = '{name}'"):
            try:
                metrics = self.client.get_run(made.run_id).data.metrics
            except MlflowException:  # its run was deleted
                continue
            if metrics.get("promoted") == 1:
                found.append(RegisteredVersion(name, str(made.version), made.run_id, dict(made.tags)))
        return found

    @contextmanager
    def stage(self, animal: str, parent: str, stage: str, key: str) -> Iterator[StageRun]:
        """Open the stage's run under `parent`; it ends FINISHED or, with the error as its reason, FAILED.

        It is described as `parent` is, and tells how far it is. A run that an earlier try of the same work left
        unfinished is taken up again, without the children it had.
        """
        experiment = self._experiment(animal)
        earlier = self._search(experiment, {"stage": stage, "key": key}, parent=parent)
        if earlier:
            run_id = earlier[0].info.run_id
            for child in self._search(experiment, {}, parent=run_id):
                self.client.delete_run(child.info.run_id)
            self.client.set_terminated(run_id, "RUNNING")
        else:
            described = self.client.get_run(parent).data.tags.get(DESCRIPTION, "")
            tags = {
                PARENT: parent,
                TAG + "stage": stage,
                TAG + "key": key,
                TAG + "code": version("menagerie"),
                DESCRIPTION: described,
            }
            run_id = self.client.create_run(experiment, run_name=stage, tags=tags).info.run_id
        with self.closing(run_id) as run:
            yield run

    @contextmanager
    def closing(self, run_id: str) -> Iterator[StageRun]:
        """Write to an open run and tell how far it is; it ends FINISHED or, with the error as its reason, FAILED."""
        run = StageRun(self.client, run_id, self.client.get_run(run_id).info.experiment_id)
        try:
            with run.telling():
                yield run
        except BaseException as error:
            self.close_run(run_id, False, f"{type(error).__name__}: {error}")
            raise
        self.close_run(run_id, True)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        log_batch(self.client, run_id, [(name, value, 0) for name, value in metrics.items()])

    def keep_result(self, result: StageResult) -> None:
        """Keep a stage's result with its run: the last thing before the run ends."""
        self.client.log_text(result.run_id, json.dumps(result.to_dict(), indent=1), "result.json")

    def link(self, parent: str, result: StageResult) -> None:
        """Note under the parent run which run holds the stage's outcome, so that reused ones are found too."""
        self.client.set_tag(parent, f"{TAG}stage.{result.stage}", result.run_id)

    def linked(self, parent: str, stage: str) -> str | None:
        """Return the run that holds a stage's outcome, if it was noted under the parent run."""
        return self.client.get_run(parent).data.tags.get(f"{TAG}stage.{stage}")

    def read_table(self, run_id: str, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv` of a run."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.client.download_artifacts(run_id, f"tables/{name}.csv", folder)
            return pd.read_csv(file, float_precision="round_trip")

    def tables(self, run_id: str) -> list[str]:
        """Return the names of a run's tables."""
        return [Path(file.path).stem for file in self.client.list_artifacts(run_id, "tables")]

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
        clauses = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()]
        if parent:
            clauses.append(f"tags.`{PARENT}` = '{parent}'")
        if status:
            clauses.append(f"attributes.status = '{status}'")
        page = self.client.search_runs([experiment], " and ".join(clauses), max_results=PAGE)
        found = list(page)
        while page.token:
            page = self.client.search_runs([experiment], " and ".join(clauses), max_results=PAGE, page_token=page.token)
            found += page
        return found


def run_key(digest: str, params: Mapping[str, Any]) -> str:
    """Return what names the work of a whole DAG run: its dataset, its choices and the version of this code."""
    return work_key("run", digest, {name: value for name, value in params.items() if name != "force"})


def work_key(stage: str, digest: str, params: Mapping[str, Any]) -> str:
    """Return the 16 hex digits that name a stage's work: its dataset, its settings and the version of this code."""
    content = json.dumps([stage, digest, dict(params), version("menagerie")], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
