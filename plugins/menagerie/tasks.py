"""Which of MLflow's runs belong to a task in Airflow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from menagerie.store import TAG, Mlflow, Run

VALIDATE = "validate_images"


@dataclass(frozen=True)
class Task:
    """A task of a DAG run, as Airflow calls it."""

    dag: str
    run: str
    task: str
    instance: str = ""
    """What a mapped task is called beside its siblings."""

    @property
    def group(self) -> str:
        """The task group that it is in: in `validate_images`, an animal."""
        return self.task.rpartition(".")[0]

    @property
    def stage(self) -> str:
        """What its stage is called, or how that begins."""
        return f"{self.task.rpartition('.')[2]} {self.instance}".rstrip()


def run_of(mlflow: Mlflow, experiments: Mapping[str, str], task: Task) -> Run:
    """Return the run of the task's DAG run; `experiments` are the ids to look in, by name.

    Raises:
        LookupError: there is none, or there are several.
    """
    # What is done to photos of no animal alone has an experiment of its own, called as the DAG.
    where = task.group or (task.dag if task.dag in experiments else "")
    within = [id for name, id in experiments.items() if where in ("", name)]
    clauses = f"tags.`{TAG}dag_id` = '{task.dag}' and tags.`{TAG}dag_run_id` = '{task.run}'"
    match mlflow.runs(within, clauses, 2):
        case [run]:
            return run
        case []:
            raise LookupError("MLflow has no run of this task. It hasn't begun one yet, or there was nothing to do.")
        case _:
            raise LookupError("This task has several runs in MLflow, one an animal: see the tasks that follow it.")


def stage_of(mlflow: Mlflow, run: Run, task: Task) -> Run:
    """Return the run of the task's stage below `run`, ended or not; of a task that has none of its own, `run`."""
    children = mlflow.runs([run.experiment], f"tags.`mlflow.parentRunId` = '{run.id}'", 100)
    stages = {child.tag("stage"): child.id for child in children} | run.stages
    found = {id for name, id in stages.items() if name == task.stage or name.startswith(f"{task.stage} ")}
    return mlflow.named([run.experiment], found).get(found.pop(), run) if len(found) == 1 else run


def docs_of(mlflow: Mlflow, experiments: Mapping[str, str], task: Task) -> Run:
    """Return the stage that validated the photos that a task works on.

    Raises:
        LookupError: there is none.
    """
    for check in _validations(mlflow, experiments, task):
        clauses = f"tags.`mlflow.parentRunId` = '{check.id}' and tags.`{TAG}stage` = 'validate'"
        for stage in mlflow.runs([check.experiment], clauses, 1):
            return stage
    raise LookupError("MLflow has no validation of these photos.")


def _validations(mlflow: Mlflow, experiments: Mapping[str, str], task: Task) -> list[Run]:
    """Return the validation of the task's DAG run, or the newest that accepted the same photos, if there is one."""
    accepted = f"tags.`{TAG}dag_id` = '{VALIDATE}' and attributes.status = 'FINISHED'"
    try:
        run = run_of(mlflow, experiments, task)
    except LookupError:
        if task.group not in experiments:
            raise
        # A validation that found nothing new is kept nowhere: the photos are those that the one before it accepted.
        scan = run_of(mlflow, experiments, replace(task, task="scan"))
        before = f"attributes.start_time < {scan.started.timestamp() * 1000:.0f}"
        return mlflow.runs([experiments[task.group]], f"{accepted} and {before}", 1)
    if task.dag == VALIDATE:
        return [run]
    return mlflow.runs([run.experiment], f"{accepted} and tags.`{TAG}dataset` = '{run.tag('dataset')}'", 1)
