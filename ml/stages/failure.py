"""What MLflow keeps of a DAG run that fails: the tasks' reasons, and no run that seems to go on for ever."""

from ml.results import DagRun
from ml.settings import Settings
from ml.tracking import TAG, Tracker

NOTED = f"{TAG}failed."
LONGEST = 4000


def note(dag_run: DagRun, task: str, reason: str, settings: Settings) -> str:
    """Note with the MLflow runs of a DAG run why a task of it failed; return their address, empty if there is none."""
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    runs = [run.info.run_id for run in tracker.runs_of(dag_run)]
    for run_id in runs:
        tracker.client.set_tag(run_id, f"{NOTED}{task}", reason[:LONGEST])
    return tracker.run_url(runs[0]) if runs else ""


def close(tracker: Tracker, run_id: str, otherwise: str) -> None:
    """End the MLflow run of a DAG run as FAILED, for the reasons that were noted; if there are none, `otherwise`."""
    tags = tracker.client.get_run(run_id).data.tags
    noted = {name: reason for name, reason in tags.items() if name.startswith(NOTED)}
    for name in noted:
        tracker.client.delete_tag(run_id, name)
    told = "; ".join(f"{name.removeprefix(NOTED)}: {reason}" for name, reason in noted.items())
    tracker.fail_run(run_id, told or otherwise)


def close_all(dag_run: DagRun, otherwise: str, settings: Settings) -> None:
    """End what a failed DAG run has left open in MLflow."""
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    for run in tracker.runs_of(dag_run):
        if run.info.status == "RUNNING":
            close(tracker, run.info.run_id, otherwise)
