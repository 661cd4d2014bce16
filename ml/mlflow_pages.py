"""Addresses of pages in MLflow's web interface, for people; programs ask its REST API."""

TRAINING = "?workflowType=machine_learning"
"""Without it MLflow opens its pages for language models, where nothing of a training is shown."""


def page(server: str, experiment: str = "", run: str = "", part: str = "") -> str:
    """Return the address of a run, of the runs of an experiment, or of all experiments, in MLflow's training pages.

    `part` is a tab of the run, such as `artifacts/report.html`; `server` is what addresses begin with, in a browser.
    """
    path = f"experiments/{experiment}" if experiment else "experiments"
    if run:
        path += f"/runs/{run}"
    if part:
        path += f"/{part}"
    return f"{server}/#/{path}{TRAINING}"
