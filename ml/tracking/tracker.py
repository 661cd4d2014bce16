"""A connection to one MLflow server: experiments, runs of DAG runs and stages, and the model registry."""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pandas as pd

from ml import mlflow_pages
from ml.addresses import is_local
from ml.data.cells import unguarded
from ml.errors import LostError, ServiceError
from ml.results import DagRun, StageResult
from ml.tracking import artifacts, networks, registry
from ml.tracking.artifacts import is_gone
from ml.tracking.keys import STAGES, TAG, provenance, run_key
from ml.tracking.registry import CHECKSUM, RegisteredVersion
from ml.tracking.stage_run import PARENT, StageRun, log_batch

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import Run

DESCRIPTION = "mlflow.note.content"
PAGE = 1000
TEXTS = dict.fromkeys(("path", "class", "candidate", "name", "file", "sha256", "reason", "problem"), str)
"""Columns of tables that are text whatever it looks like: a folder may be called 007, NA or True."""
ABANDONED = "it was killed, or its machine was (is there memory enough?): see the log of the task in Airflow"
RESULT, REPORT = "result.json", "report.html"

log = logging.getLogger(__name__)


class Judged(NamedTuple):
    """A stage that has judged a model."""

    stage: str
    digest: str
    """The dataset's; empty if it isn't known."""
    at: datetime


class Tracker:
    """A connection to one MLflow server."""

    def __init__(self, uri: str, browser_uri: str = "") -> None:
        """Connect to the server at `uri`; in a browser, its pages are at `browser_uri`, if that isn't the same.

        Raises:
            ServiceError: nothing healthy answers there.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.uri = uri
        self.browser_uri = browser_uri or uri
        if uri.startswith("http"):
            try:
                httpx.get(f"{uri}/health", timeout=10, trust_env=not is_local(uri)).raise_for_status()
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
            **provenance(STAGES),
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
        """Close a run as FAILED, and so the open runs of its stages, folds and trials, on which nothing works."""
        experiment = self.client.get_run(run_id).info.experiment_id
        parents = {run_id, *(stage.info.run_id for stage in self._search(experiment, {}, parent=run_id))}
        for left in self._search(experiment, {}, status="RUNNING"):
            if left.data.tags.get(PARENT) in parents:
                self.close_run(left.info.run_id, False, ABANDONED)
        self.close_run(run_id, False, reason)

    def runs_of(self, dag_run: DagRun) -> "list[Run]":
        """Return the runs of a DAG run, of whatever animals."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        clauses = f"tags.`{TAG}dag_id` = '{dag_run.dag_id}' and tags.`{TAG}dag_run_id` = '{dag_run.run_id}'"
        return list(self.client.search_runs(experiments, clauses))

    def twin(self, animal: str, run_id: str) -> "Run | None":
        """Return the last run of a DAG run that finished with the same photos, choices and code as `run_id`'s."""
        key = self.client.get_run(run_id).data.tags.get(TAG + "key", "")
        found = self._search(self._experiment(animal), {"key": key}, status="FINISHED")
        return next((run for run in found if PARENT not in run.data.tags), None)

    def adopt(self, run_id: str, twin: "Run") -> None:
        """Give a run what its twin found: numbers, the runs of its stages, the report; and close it.

        Raises:
            LostError: the twin's report is gone.
        """
        with tempfile.TemporaryDirectory() as folder:
            report = artifacts.download(self.client, twin.info.run_id, REPORT, folder)
            self.client.log_artifact(run_id, str(report))
        for name, value in twin.data.tags.items():
            if name.startswith(TAG + "stage.") or name == TAG + "champion":
                self.client.set_tag(run_id, name, value)
        self.client.set_tag(run_id, TAG + "twin", twin.info.run_id)
        self.log_metrics(run_id, twin.data.metrics)
        self.close_run(run_id, succeeded=True)

    def find(self, animal: str, stage: str, key: str) -> StageResult | None:
        """Return what a finished run of the same stage with the same `key` found, if there is one.

        A run that has lost one of its files since is passed over, with a warning.
        """
        for run in self._search(self._experiment(animal), {"stage": stage, "key": key}, status="FINISHED"):
            try:
                return replace(self._result(run.info.run_id), reused=True)
            except LostError as error:
                log.warning("%s did the same work before, but can't be used again: %s", stage, error)
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
                run_of_dag = self._run(parent)
                datasets[parent] = run_of_dag.data.tags.get(TAG + "dataset", "") if run_of_dag else ""
            at = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            found.append(Judged(tags[TAG + "stage"], datasets[parent], at))
        return found

    def promoted(self, name: str) -> list[RegisteredVersion]:
        """Return the versions of `name` that became champion when they were made."""
        found = []
        for made in self.client.search_model_versions(f"name = '{name}'"):
            run = self._run(made.run_id)
            if run and run.data.metrics.get("promoted") == 1:
                found.append(RegisteredVersion(name, str(made.version), made.run_id, dict(made.tags)))
        return found

    @contextmanager
    def stage(self, animal: str, parent: str, stage: str, key: str, module: str = STAGES) -> Iterator[StageRun]:
        """Open the stage's run under `parent`; it ends FINISHED or, with the error as its reason, FAILED.

        It is described as `parent` is, and tells how far it is and what code it is of, that of `module`. A run that an
        earlier try of the same work left unfinished is taken up again, without the children it had.
        """
        described = self._active(parent).data.tags.get(DESCRIPTION, "")
        experiment = self._experiment(animal)
        earlier = self._search(experiment, {"stage": stage, "key": key}, parent=parent)
        if earlier:
            run_id = earlier[0].info.run_id
            for child in self._search(experiment, {}, parent=run_id):
                self.client.delete_run(child.info.run_id)
            self.client.set_terminated(run_id, "RUNNING")
        else:
            tags = {
                PARENT: parent,
                TAG + "stage": stage,
                TAG + "key": key,
                **provenance(module),
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
        """Keep a stage's result with its run, and which files the run has: the last thing before the run ends."""
        kept = {"result": result.to_dict(), "files": artifacts.contents(self.client, result.run_id)}
        self.client.log_text(result.run_id, json.dumps(kept, indent=1), RESULT)

    def link(self, parent: str, result: StageResult) -> None:
        """Note under the parent run which run holds the stage's outcome, so that reused ones are found too."""
        self.client.set_tag(parent, f"{TAG}stage.{result.stage}", result.run_id)

    def linked(self, parent: str, stage: str) -> str | None:
        """Return the run that holds a stage's outcome, if it was noted under the parent run."""
        return self.client.get_run(parent).data.tags.get(f"{TAG}stage.{stage}")

    def read_table(self, run_id: str, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv` of a run.

        Raises:
            LostError: it is gone or damaged.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = artifacts.download(self.client, run_id, f"tables/{name}.csv", folder)
            try:
                table = pd.read_csv(
                    file, float_precision="round_trip", dtype=TEXTS, keep_default_na=False, na_values=[""]
                )
            except ValueError as error:
                raise LostError(f"The table {name} of MLflow run {run_id} is damaged: {error}") from error
            return unguarded(table)

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
        """Return the version of the registered model `name` that is the champion, if there is one.

        Raises:
            LostError: it lacks tags that Menagerie's versions have.
        """
        return registry.champion(self.client, name)

    def champions(self, animals: Iterable[str]) -> dict[str, RegisteredVersion]:
        """Return the classifier champion of each animal that has one; those that can't be used are warned of."""
        found = {}
        for animal in animals:
            try:
                if champion := self.champion(f"{animal}-classifier"):
                    found[animal] = champion
            except LostError as error:
                log.warning("%s is left out. %s", animal, error)
        return found

    def champion_number(self, name: str) -> str:
        """Return the number of the champion, whether it can be used or not; empty without one."""
        champion = registry.champion_unchecked(self.client, name)
        return champion.version if champion else ""

    def choose_champion(self, name: str, number: str) -> RegisteredVersion | None:
        """Make a version the champion, or none: see `ml.tracking.registry.choose`."""
        return registry.choose(self.client, name, number)

    def registered_by(self, name: str, dag_run: str) -> RegisteredVersion | None:
        """Return the version of `name` that a DAG run (its MLflow run) has registered already, if it has."""
        return registry.registered_by(self.client, name, dag_run)

    def set_alias(self, registered: RegisteredVersion, alias: str) -> None:
        self.client.set_registered_model_alias(registered.name, alias, registered.version)

    def drop_alias(self, registered: RegisteredVersion, alias: str) -> None:
        self.client.delete_registered_model_alias(registered.name, alias)

    def load_model(self, registered: RegisteredVersion) -> "keras.Model":
        """Load a version's network; no code of the registry runs: see `ml.tracking.registry.load_model`.

        Raises:
            LostError: its file is gone, damaged or replaced, or Keras doesn't load it in safe mode.
        """
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return registry.load_model(registered)

    def load_network(self, run_id: str, name: str) -> "keras.Model":
        """Load what `StageRun.network` kept with a run, with the same care.

        Raises:
            LostError: its file is gone, damaged or replaced, or Keras doesn't load it in safe mode.
        """
        expected = self.client.get_run(run_id).data.tags.get(f"{TAG}{CHECKSUM}.{name}")
        with tempfile.TemporaryDirectory() as folder:
            file = artifacts.download(self.client, run_id, name, folder)
            what = f"The network {name} of MLflow run {run_id}"
            return networks.load(file, expected, what, "To make it again, trigger the DAG with the param force.")

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return mlflow_pages.page(self.browser_uri, self.client.get_run(run_id).info.experiment_id, run_id)

    def _description(self, dag_run: DagRun, validation_run: str) -> str:
        from mlflow.exceptions import MlflowException

        links = {"The DAG run in Airflow": dag_run.url}
        if validation_run:
            try:
                links["The validation of its photos, with Data Docs"] = self.run_url(validation_run)
            except MlflowException as error:
                if not is_gone(error):
                    raise
                log.warning("The validation of the photos, MLflow run %s, is gone: no link leads there", validation_run)
        return "\n\n".join(f"[{text}]({url})" for text, url in links.items() if url)

    def _experiment(self, animal: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(animal)
        if found and found.lifecycle_stage == "deleted":
            log.warning("The experiment %s was deleted in MLflow: it is restored, with its runs", animal)
            self.client.restore_experiment(found.experiment_id)
        if found:
            return found.experiment_id
        try:
            return self.client.create_experiment(animal)
        except MlflowException:  # another task made it in the meantime
            found = self.client.get_experiment_by_name(animal)
            if not found:
                raise
            return found.experiment_id

    def _run(self, run_id: str) -> "Run | None":
        """Return a run, if it isn't gone."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if is_gone(error):
                return None
            raise

    def _active(self, run_id: str) -> "Run":
        """Return the run of a DAG run that goes on; one that was deleted in MLflow meanwhile is restored.

        Raises:
            LostError: it was deleted for good.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if not is_gone(error):
                raise
            raise LostError(
                f"MLflow no longer has the run {run_id} of this DAG run. Clear the task prepare with all that follow, "
                "or trigger the DAG again."
            ) from error
        if run.info.lifecycle_stage == "deleted":
            log.warning("The MLflow run %s was deleted while its DAG run goes on: it is restored", run_id)
            self.client.restore_run(run_id)
        return run

    def _result(self, run_id: str) -> StageResult:
        """Return the result that a run has kept.

        Raises:
            LostError: it is gone, damaged or of another layout, or a file that the run had is gone or cut short.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = artifacts.download(self.client, run_id, RESULT, folder)
            try:
                kept = json.loads(file.read_text())
                result, files = StageResult.from_dict(kept["result"]), dict(kept["files"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise LostError(
                    f"{RESULT} of MLflow run {run_id} is damaged or of another version: {type(error).__name__}: {error}"
                ) from error
        there = artifacts.contents(self.client, run_id)
        if lost := sorted(path for path, size in files.items() if there.get(path) != size):
            raise LostError(f"MLflow run {run_id} no longer has all its files as they were: {', '.join(lost[:5])}")
        return result

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
