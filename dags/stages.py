"""Tasks that run a stage of `ml.stages`, and the way of jobs and results through XCom."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from defaults import queue

from ml import settings
from ml.params import Params, RetrainParams


def stage(
    name: str,
    does: str,
    params: type[Params] = RetrainParams,
    unless: tuple[str, Any] | None = None,
    skip_on: Any = (),
    **options: Any,
) -> Any:
    """Return a task that runs `ml.stages.<name>` on the job and on the results that it is called with.

    A mapped one takes its result by the name `result`, and what it is mapped over by the name `each`.

    Args:
        does: what the task's page says of it.
        params: those of the DAG.
        unless: a param and the value at which the stage is not wanted; then the task is skipped.
        skip_on: errors at which it is skipped too, with their message: the other stages go on.
    """

    @task(task_id=name, doc_md=does, queue=queue(name), **options)
    def run(job: dict[str, Any], *results: Any, result: Any = None, each: Any = None) -> dict[str, Any]:
        if unless and job["params"][unless[0]] == unless[1]:
            raise AirflowSkipException(f"not wanted: see the param {unless[0]}, and the preset")
        get_current_context()["each"] = each  # type: ignore[typeddict-unknown-key]  # for the label of a mapped task
        told = [read(value) for value in (*results, result, each) if value is not None]
        try:
            found = import_module(f"ml.stages.{name}").run(job_of(job, params), *told)
        except skip_on as error:
            raise AirflowSkipException(str(error)) from error
        if found is None:
            raise AirflowSkipException("there is nothing to do for it in this run")
        return found.to_dict()

    return run


def report(params: type[Params] = RetrainParams) -> Any:
    """Return the last task of a DAG run, which is to be its teardown."""

    @task
    def report(job: dict[str, Any] | None, results: Sequence[Any]) -> None:
        """Write the report and close the MLflow run, however the stages ended."""
        from ml.stages import report

        if job is None:
            raise AirflowSkipException("there is no MLflow run to report on: see the log of prepare")
        report.run(job_of(job, params), read(results))

    return report


def job_of(values: dict[str, Any], params: type[Params] = RetrainParams) -> Any:
    """Return the job in an XCom."""
    from ml.stages.job import Job

    return Job.from_dict(values, settings.read(), params)  # type: ignore[type-var]


def read(value: Any) -> Any:
    """Return the stage result in an XCom, or those in several, mapped or not; `None` where a task didn't end well."""
    from ml.results import StageResult

    if isinstance(value, dict):
        return StageResult.from_dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        results: list[Any] = []
        for each in map(read, value):
            results += each if isinstance(each, list) else [each] if each else []
        return results
    return value
