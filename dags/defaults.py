"""What all DAGs share: their defaults, their Trigger forms, and what happens when a task fails."""

import hashlib
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule

from ml import animals, notify, settings
from ml.errors import ParameterError
from ml.notify import Message
from ml.params import Params
from ml.results import DagRun
from ml.settings import Settings

log = logging.getLogger(__name__)

OWNER = "menagerie"
TAG = "menagerie"

TOLD = "told"
KILLED = "It was killed, or its machine was (is there memory enough?): its log says how far it came."


def tell_failure(context: Any) -> None:
    """Tell people that a task has failed, after its last try, and note it in MLflow; in the words of its error.

    Without its error the task is dead, and this the DAG processor: `end_failed_run` tells of it.
    """
    if error := context.get("exception"):
        _tell(context, f"{type(error).__name__}: {error}")
        context["ti"].xcom_push(TOLD, True)


def end_failed_run(context: Any) -> None:
    """Tell of the task that a DAG run failed by, if it was killed and couldn't tell itself; end what is open in MLflow.

    This runs in the DAG processor, which knows no errors of tasks, and one of the tasks that failed.
    """
    from ml.stages import failure

    if instance := context.get("ti"):
        if not instance.xcom_pull(task_ids=instance.task_id, map_indexes=instance.map_index, key=TOLD):
            _tell(context, KILLED)
        failure.close_all(dag_run_of(context), KILLED, settings.read())


def report_faults() -> None:
    """Tell people, once each, which tables of `animals.toml` can't be used; the other animals go on.

    It runs where DAG files are parsed, every minute and in several processes: a file per message says that it was sent.
    """
    chosen = settings.read()
    sent, messages = chosen.home / "run" / "faults", _fault_messages(chosen)
    try:
        if messages:
            sent.mkdir(parents=True, exist_ok=True)
        for name, message in messages.items():
            with suppress(FileExistsError):
                (sent / name).touch(exist_ok=False)
                notify.send(message, chosen)
        for corrected in [path for path in sent.glob("*") if path.name not in messages]:
            corrected.unlink(missing_ok=True)
    except OSError as error:  # no reason for the DAGs of the other animals to be gone
        log.warning("it is not known which faults of animals.toml were reported: %s", error)


def _fault_messages(chosen: Settings) -> dict[str, Message]:
    """Return a message per fault of `animals.toml`, by a name that stays when the fault moves to another line."""
    try:
        faults = animals.all_faults(chosen.animals)
    except ParameterError as error:
        text = f"{error}\nThe DAGs of all animals are gone until this is corrected."
        return {_digest(text): Message("animals.toml can't be read", text, {"reason": str(error)})}
    messages = {}
    for fault in faults:
        what = f"[{fault.table}]" if fault.table else "animals.toml"
        gone = "Its DAGs are gone until this is corrected. " if fault.table else ""
        about = {"file": str(fault.file), "line": str(fault.line), "table": fault.table, "reason": fault.text}
        text = f"{fault}\n{gone}The DAGs of the other animals go on."
        messages[_digest(f"{fault.table} {fault.text}")] = Message(f"{what} can't be used", text, about)
    return messages


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _tell(context: Any, reason: str) -> None:
    instance, run, chosen = context["ti"], dag_run_of(context), settings.read()
    links = {"Its log": instance.log_url, "The DAG run": run.url}
    try:
        from ml.stages import failure

        links["MLflow"] = failure.note(run, instance.task_id, reason, chosen)
    except Exception as trouble:  # whatever it is, it may be why the task failed, and is no reason not to tell
        log.warning("not noted in MLflow: %s", trouble)
    label = getattr(instance, "rendered_map_index", None)
    task = f"{instance.task_id} [{label}]" if label else instance.task_id
    message = Message(
        f"{run.dag_id}: {task} failed",
        f"{task} of {run.dag_id}, run {run.run_id}, has failed.\n{reason}",
        {"dag": run.dag_id, "run": run.run_id, "task": task, "reason": reason},
        {what: where for what, where in links.items() if where},
    )
    notify.send(message, chosen)


TASKS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    # What hangs, say on a network drive, would hold its place and its DAG for ever, and nobody would know.
    "execution_timeout": timedelta(hours=settings.read().task_hours),
    # Bad data and bad params fail at once; a server that is down, or a full disk, is worth another try.
    "retry_policy": ExceptionRetryPolicy(
        [RetryRule("ml.errors.NoRetryError", RetryAction.FAIL, reason="trying again can't mend it")]
    ),
    "on_failure_callback": tell_failure,
}
EVERY_DAG: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "default_args": TASKS,
    "on_failure_callback": end_failed_run,
}
SOON: dict[str, Any] = EVERY_DAG | {"default_args": TASKS | {"priority_weight": 1000}}
"""The same for DAGs of minutes that somebody waits for: they wait for no retraining's tasks but those that run."""


TRAINS = frozenset(
    {"explore", "baseline", "search", "tune", "regularise", "augment", "classes", "transfer", "finetune", "promote"}
    | {"crops", "gan", "helps"}
)
"""The stages that train networks, or pass all photos through one."""


def queue(stage: str) -> str:
    """Return the queue of a stage's task: that of workers with a GPU, if there are some and it trains."""
    return settings.read().gpu_queue if stage in TRAINS else "default"


def at(cron: str) -> CronTriggerTimetable:
    """Return the schedule of a cron expression or preset; switching a DAG on starts nothing before its time."""
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))


def form(params: type[Params], **defaults: Any) -> dict[str, Param]:
    """Return the Trigger form of `params`: typed, bounded, with titles and help; `defaults` replace their own."""
    return {
        name: Param(schema["default"], **{key: value for key, value in schema.items() if key != "default"})
        for name, schema in params.form(**defaults).items()
    }


def dataset_asset(animal: str) -> Asset:
    """The accepted photos of an animal; updated when they change."""
    return _asset("dataset", animal, f"The accepted photos of {animal}: its classifier is trained on them.")


def model_asset(animal: str) -> Asset:
    """The champion of an animal; updated when another takes its place."""
    return _asset("model", animal, f"The champion: what says whether there is {animals.indefinite(animal)} in a photo.")


def _asset(group: str, animal: str, what: str) -> Asset:
    name = f"{group}://{animal}"
    return Asset(name=name, uri=name, group=group, extra={"animal": animal, "what": what})


def dag_run_of(context: Any) -> DagRun:
    """Return what the MLflow run needs to know of the DAG run."""
    run = context["dag_run"]
    return DagRun(run.dag_id, run.run_id, f"{settings.read().airflow_link}/dags/{run.dag_id}/runs/{run.run_id}")
