"""`menagerie demo`: every DAG once through the real scheduler, followed on the terminal; results at the end."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ml import animals, stack
from ml.data.sample import draw_samples
from ml.environment import USER, dags_folder, password
from ml.errors import MenagerieError, ServiceError
from ml.rest import Airflow
from ml.settings import Settings

VALIDATE, RETRAIN = "validate_images", "retrain_"
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
ASKED = "awaiting_input"
"""The state of a task that waits for a person."""
GRACE = 8.0
"""Seconds in which a DAG that waits for a dataset starts, if the dataset has changed."""


def demo(settings: Settings, photos: Path | None, console: Console) -> None:
    """Run every DAG on `photos`, or on drawings made for it; print the results; end what was started.

    Raises:
        MenagerieError: a stack runs already, doesn't start, or ends early; or the last run of a DAG failed, and
            the end of the log was printed.
    """
    settings = replace(settings, photos=(photos or settings.home / "drawings").absolute(), photos_url="")
    process = stack.start(settings, console)
    try:
        if photos is None:
            draw(settings.photos, console)
        console.print(
            f"To watch in Airflow: {settings.airflow_link}, user {USER}, password {password(settings)}",
            highlight=False,
            soft_wrap=True,
        )
        _run_all(settings, console)
        console.print(results(settings, "drawings" if photos is None else "photos"), highlight=False, soft_wrap=True)
        console.print("To look around in Airflow and MLflow: make up", highlight=False)
    except ServiceError as error:
        if why := stack.reason(settings):
            raise ServiceError(f"The stack ended early: {why}") from error
        raise
    finally:
        with stack.waiting(console, "Ending"):
            stack.stop(settings, process)


def join(settings: Settings, preset: str, console: Console) -> None:
    """Run every DAG of a stack that runs already, on the photos that it has; print the results; leave it running.

    Raises:
        MenagerieError: the stack isn't healthy, or the last run of a DAG failed.
    """
    stack.join(settings, console)
    _run_all(settings, console, preset)
    console.print(results(settings, "pictures"), highlight=False, soft_wrap=True)


def _run_all(settings: Settings, console: Console, preset: str = "") -> None:
    """Run every DAG once, and follow it; at `preset`, if it isn't that which the stack was started with."""
    airflow = stack.client(settings)
    dags = _dags(airflow)
    retrains = [dag for dag in dags if dag.startswith(RETRAIN)]
    others = [dag for dag in dags if dag not in (VALIDATE, *retrains)]
    chosen: dict[str, dict[str, Any]] = {dag: {"preset": preset} if preset else {} for dag in retrains}
    for name, animal in animals.read(settings.animals).items():
        if animal.require_approval and (conf := chosen.get(f"{RETRAIN}{name}")) is not None:
            conf["require_approval"] = False
            console.print(
                f"{name}: a demo waits for nobody, so its model may become champion without an approval, although "
                f"{settings.animals} has require_approval = true.",
                highlight=False,
                soft_wrap=True,
            )
    # A DAG that is on while the photos are validated starts by itself if its dataset has changed; without `chosen`.
    by_themselves = [dag for dag in retrains if not chosen[dag]]
    with Follower(airflow, settings, console, [VALIDATE, *retrains, *others]) as follower:
        with _switched_on(airflow, [VALIDATE, *by_themselves]):
            follower.follow([VALIDATE], grace=0)
            with _switched_on(airflow, retrains):
                follower.follow(retrains, GRACE if by_themselves else 0, chosen)
        for dag in others:
            with _switched_on(airflow, [dag]):
                follower.follow([dag], grace=0)


def draw(folder: Path, console: Console) -> None:
    """Make the sample drawings in `folder`, with progress on the terminal; those that are there stay."""
    with progress_bar(console, "Drawing", MofNCompleteColumn()) as progress:
        count = draw_samples(folder, progress=progress)
    console.print(f"{count} drawings of animals are in {folder}", highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console, text: str, amount: ProgressColumn) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on the terminal during the block, and yield what moves it: called with how much is done, of what."""
    columns = (TextColumn("{task.description}"), BarColumn(40), amount, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


class Follower:
    """Shows how far `dags` are: on a terminal one line a DAG, else one line for each change of a task's state."""

    def __init__(self, airflow: Airflow, settings: Settings, console: Console, dags: list[str]) -> None:
        self.airflow, self.settings, self.console = airflow, settings, console
        ended = {dag: [run for run in self._runs(dag) if run["state"] in ENDED] for dag in dags}
        self.past = {_key(run) for runs in ended.values() for run in runs}
        self.states: dict[tuple[str, ...], str] = {}
        self.progress = Progress(
            SpinnerColumn(finished_text="•"),
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.lines = {dag: self.progress.add_task(dag, start=False, total=None, now="") for dag in dags}

    def __enter__(self) -> "Follower":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def follow(self, dags: list[str], grace: float, chosen: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Follow the runs of `dags` until all have ended; one that has none after `grace` seconds is triggered,
        with the params that are `chosen` for it.

        Runs that an earlier stack left unfinished go on by themselves, and count.

        Raises:
            MenagerieError: the last run of a DAG failed.
            ServiceError: Airflow doesn't answer.
        """
        trigger_at = time.monotonic() + grace
        while True:
            runs = {dag: [run for run in self._runs(dag) if _key(run) not in self.past] for dag in dags}
            for dag in dags:
                self._show(dag, runs[dag])
            if all(runs[dag] and all(run["state"] in ENDED for run in runs[dag]) for dag in dags):
                break
            if time.monotonic() >= trigger_at:
                for dag in (dag for dag in dags if not runs[dag]):
                    conf = (chosen or {}).get(dag, {})
                    self.airflow.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
            time.sleep(1.0)
        if failed := [dag for dag in dags if runs[dag][-1]["state"] != "success"]:
            raise MenagerieError(f"{', '.join(failed)} failed. To look around in Airflow and MLflow: make up")

    def _runs(self, dag: str) -> list[dict[str, Any]]:
        return self.airflow.all(f"dags/{dag}/dagRuns", "dag_runs", order_by="id")

    def _show(self, dag: str, runs: list[dict[str, Any]]) -> None:
        line, tasks = self.lines[dag], []
        for run in runs:
            path = f"dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances"
            tasks += [(path, task) for task in self.airflow.all(path, "task_instances")]
        for path, task in tasks:
            key, state = (path, task["id"], str(task["try_number"])), task["state"] or "waiting"
            if self.states.get(key, "waiting") != state:
                self._changed(path, task)
            self.states[key] = state
        running = [_name(task) for _, task in tasks if task["state"] == "running"]
        running += [f"{_name(task)} waits for an answer" for _, task in tasks if task["state"] == ASKED]
        ended = bool(runs) and all(run["state"] in ENDED for run in runs)
        if runs and self.progress.tasks[line].start_time is None:
            self.progress.start_task(line)
        self.progress.update(
            line,
            total=len(tasks) or None,
            completed=sum(task["state"] in ENDED for _, task in tasks),
            now=runs[-1]["state"] if ended else ", ".join(running),
        )
        if ended:
            self.progress.stop_task(line)

    def _changed(self, path: str, task: dict[str, Any]) -> None:
        if task["state"] == ASKED:
            run = f"{self.settings.airflow_link}/dags/{task['dag_id']}/runs/{quote(task['dag_run_id'], safe='')}"
            self._print(
                f"{task['dag_id']} asks a person and waits. Answer: {run}/tasks/{task['task_id']}/required_actions"
            )
        failed = task["state"] in ("failed", "up_for_retry")
        if failed or not self.console.is_terminal:
            at = time.strftime("%H:%M:%S")
            self._print(f"{at}  {task['dag_id']}  {_name(task)}  {task['state'] or 'waiting'}")
        if failed:
            for text in _log(self.airflow, path, task)[-20:]:
                self._print(f"  | {text}")
            self._print(f"  The full log: {_log_file(self.settings, task)}")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def results(settings: Settings, kind: str) -> Group:
    """Return what the champions reached on `kind` ("photos", "drawings"): a table, and where their reports are.

    Raises:
        ServiceError: MLflow doesn't answer.
    """
    table = Table(title=f"Champions, cross-validated on {kind}", title_justify="left")
    for heading in ("animal", "champion", "accuracy (95 % interval)", "ROC AUC on all", kind):
        table.add_column(heading, justify="left" if heading == "animal" else "right")
    lines = []
    url, login = f"{settings.mlflow_uri}/api/2.0/mlflow/", settings.mlflow_login
    with httpx.Client(base_url=url, auth=login, timeout=30.0, trust_env=False) as http:
        for animal in animals.read(settings.animals):
            found = _mlflow(http, "registered-models/alias", name=f"{animal}-classifier", alias="champion")
            if found is None:
                table.add_row(animal, "none")
                continue
            version = found["model_version"]
            run = _mlflow(http, "runs/get", run_id=version["run_id"])["run"]
            metric = {item["key"]: item["value"] for item in run["data"].get("metrics", [])}
            table.add_row(
                animal,
                f"version {version['version']}",
                _text("{cv_accuracy_mean:.3f} ({cv_accuracy_low:.3f} to {cv_accuracy_high:.3f})", metric),
                _text("{cv_all_roc_auc:.3f}", metric),
                _text("{n_photos:.0f}", metric),
            )
            lines.append(f"{animal}: {_report(settings, http, run)}")
    return Group(table, *lines)


def _mlflow(http: httpx.Client, path: str, **parameters: str) -> Any:
    """Return MLflow's answer, or None if it has no such thing."""
    try:
        answer = http.get(path, params=parameters)
    except httpx.HTTPError as error:
        raise ServiceError(f"MLflow at {http.base_url} doesn't answer: {error!r}") from error
    if "RESOURCE_DOES_NOT_EXIST" in answer.text or answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if answer.is_error:
        raise ServiceError(f"MLflow refused {path}: {answer.status_code} {answer.text[:500]}")
    return answer.json()


def _report(settings: Settings, http: httpx.Client, run: dict[str, Any]) -> Path | str:
    """Return the report of the DAG run that `run` is a part of; if there is none, the page of `run` in MLflow."""
    info = run["info"]
    above: dict[str, Any] | None = run
    while above:
        kept = str(above["info"]["artifact_uri"]).partition(":/")[2].lstrip("/")
        report = settings.home / "mlflow" / "artifacts" / kept / "report.html"
        if report.is_file():
            return report
        tags = {tag["key"]: tag["value"] for tag in above["data"].get("tags", [])}
        parent = tags.get("mlflow.parentRunId")
        above = (_mlflow(http, "runs/get", run_id=parent) or {}).get("run") if parent else None
    return f"{settings.mlflow_link}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}"


def _text(form: str, metrics: dict[str, float]) -> str:
    try:
        return form.format_map(metrics)
    except KeyError:
        return "not logged"


def _dags(airflow: Airflow) -> list[str]:
    """Return the ids of the DAGs in alphabetical order.

    Raises:
        MenagerieError: a file can't be read, or there is no `validate_images`.
    """
    for error in airflow.all("importErrors", "import_errors"):
        raise MenagerieError(f"Airflow can't read {error['filename']}:\n{error['stack_trace']}")
    dags = sorted(dag["dag_id"] for dag in airflow.all("dags", "dags", exclude_stale=True))
    if VALIDATE not in dags:
        raise MenagerieError(f"Expected the DAG {VALIDATE} in {dags_folder()}. Received: {', '.join(dags) or 'none'}")
    return dags


@contextmanager
def _switched_on(airflow: Airflow, dags: list[str]) -> Iterator[None]:
    """Switch `dags` on, and in the end those off again that were off: a demo leaves no schedule running."""
    off = [dag for dag in dags if airflow.get(f"dags/{dag}")["is_paused"]]
    try:
        for dag in off:
            airflow.patch(f"dags/{dag}", {"is_paused": False})
        yield
    finally:
        for dag in off:
            with suppress(ServiceError):  # the stack may have ended
                airflow.patch(f"dags/{dag}", {"is_paused": True})


def _log(airflow: Airflow, path: str, task: dict[str, Any]) -> list[str]:
    """Return the lines of a task's log, less those on where Airflow found it and how it came to call the task."""
    where = f"{path}/{task['task_id']}/logs/{task['try_number']}"
    try:
        answer = airflow.get(where, map_index=task["map_index"], full_content=True)
    except ServiceError as error:
        return [str(error)]
    lines: list[str] = []
    for entry in answer["content"]:
        if "timestamp" in entry and not entry["event"].startswith("::"):
            lines += entry["event"].splitlines()
            for cause in entry.get("error_detail") or []:
                own = [at for at in cause["frames"] if "/site-packages/airflow/" not in at["filename"]]
                lines += [f"{at['filename']}:{at['lineno']} in {at['name']}" for at in own]
                lines += f"{cause['exc_type']}: {cause['exc_value']}".splitlines()
    return lines


def _log_file(settings: Settings, task: dict[str, Any]) -> Path:
    run = settings.home / "logs" / "tasks" / f"dag_id={task['dag_id']}" / f"run_id={task['dag_run_id']}"
    mapped = [f"map_index={task['map_index']}"] if task["map_index"] >= 0 else []
    return run.joinpath(f"task_id={task['task_id']}", *mapped, f"attempt={task['try_number']}.log")


def _key(run: dict[str, Any]) -> tuple[str, str]:
    return run["dag_id"], run["dag_run_id"]


def _name(task: dict[str, Any]) -> str:
    if task["map_index"] < 0:
        return str(task["task_id"])
    return f"{task['task_id']}[{task['rendered_map_index'] or task['map_index']}]"
