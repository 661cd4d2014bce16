"""What all DAGs share: their defaults, their Trigger forms, and the way from a task's context to the stages."""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule

from ml import settings
from ml.params import Params
from ml.results import DagRun

OWNER = "menagerie"
TAG = "menagerie"

TASKS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    # Bad data and bad params fail at once; a server that is down, or a full disk, is worth another try.
    "retry_policy": ExceptionRetryPolicy(
        [RetryRule("ml.errors.NoRetryError", RetryAction.FAIL, reason="trying again can't mend it")]
    ),
}


def at(cron: str) -> CronTriggerTimetable:
    """Return the schedule of a cron expression or preset; switching a DAG on starts nothing before its time."""
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))


def form(params: type[Params], **defaults: Any) -> dict[str, Param]:
    """Return the Trigger form of `params`: typed, bounded, with titles and help; `defaults` replace their own."""
    return {
        name: Param(
            defaults.get(name, schema["default"]), **{key: value for key, value in schema.items() if key != "default"}
        )
        for name, schema in params.form().items()
    }


def dataset_asset(animal: str) -> Asset:
    """The accepted photos of an animal; updated when they change."""
    return Asset(name=f"dataset://{animal}", uri=f"dataset://{animal}", group="dataset")


def model_asset(animal: str) -> Asset:
    """The champion of an animal; updated when another takes its place."""
    return Asset(name=f"model://{animal}", uri=f"model://{animal}", group="model")


def dag_run_of(context: Any) -> DagRun:
    """Return what the MLflow run needs to know of the DAG run."""
    run = context["dag_run"]
    return DagRun(run.dag_id, run.run_id, f"{settings.read().airflow_link}/dags/{run.dag_id}/runs/{run.run_id}")
