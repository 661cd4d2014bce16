"""Runs of DAGs, followed on the terminal until they end."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ml.errors import MenagerieError, ServiceError
from ml.rest import Airflow
from ml.settings import Settings

ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
ASKED = "awaiting_input"
"""The state of a task that waits for a person."""
EVERY = 3.0
"""Seconds between two looks: the API server works for each, on the cores that train."""


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
            time.sleep(EVERY)
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
