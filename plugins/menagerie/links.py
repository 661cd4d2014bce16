"""Buttons on Airflow's tasks, to what MLflow keeps of them.

A button leads to a route of the page, which asks MLflow when it is pressed. So none is slow to show, and a task that
runs, or has failed, has its buttons too.
"""

from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink


class TaskLink(BaseOperatorLink):
    """A button of every task whose DAG's name begins with one of `dags`."""

    what = ""
    """The last part of the route: see `menagerie.api`."""
    dags: tuple[str, ...] = ("",)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, or nothing, which hides the button; the API server calls this."""
        if not ti_key.dag_id.startswith(self.dags):
            return ""
        task = {"dag": ti_key.dag_id, "run": ti_key.run_id, "task": ti_key.task_id, "instance": _instance(ti_key)}
        below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{below}/menagerie/task/{self.what}?{urlencode(task)}"


class RunLink(TaskLink):
    """To the run of the task's stage, or if it has none, of its DAG run."""

    name = "MLflow run"
    what = "run"


class ReportLink(TaskLink):
    """To the report of the task's DAG run."""

    name = "Report"
    what = "report"
    dags = ("retrain_", "gan_")


class DocsLink(TaskLink):
    """To Data Docs on the photos that the task works on."""

    name = "Data Docs"
    what = "docs"
    dags = ("retrain_", "gan_", "validate_images")


def _instance(key: Any) -> str:
    """Return what a mapped task is called beside its siblings, and nothing for any other."""
    if key.map_index < 0:
        return ""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    where = {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id, "map_index": key.map_index}
    with create_session() as session:
        return session.scalar(select(TaskInstance.rendered_map_index).filter_by(**where)) or ""
