"""What champions reached: a table for the terminal, and where their reports are."""

from pathlib import Path
from typing import Any

import httpx
from rich.console import Group
from rich.table import Table

from ml import animals, mlflow_pages, mlflow_server
from ml.data.signature import caveat
from ml.errors import ServiceError
from ml.settings import Settings


def results(settings: Settings) -> Group:
    """Return what the champions reached: a table, what is to be said if it is on drawings, and where their reports are.

    Raises:
        ServiceError: MLflow doesn't answer.
    """
    table = Table(title="Champions, cross-validated", title_justify="left")
    for heading in ("animal", "champion", "accuracy (95 % interval)", "ROC AUC on all", "photos"):
        table.add_column(heading, justify="left" if heading == "animal" else "right")
    lines: list[str] = []
    caveats: dict[str, list[str]] = {}
    with mlflow_server.client(settings, "/api/2.0/mlflow/") as http:
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
            if said := caveat(metric.get("n_drawings", 0), metric.get("n_photos", 0)):
                caveats[said] = [*caveats.get(said, []), animal]
            lines.append(f"{animal}: {_report(settings, http, run)}")
    return Group(table, *(f"{', '.join(of)}: {said}" for said, of in caveats.items()), *lines)


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
    return mlflow_pages.page(settings.mlflow_link, info["experiment_id"], info["run_id"])


def _text(form: str, metrics: dict[str, float]) -> str:
    try:
        return form.format_map(metrics)
    except KeyError:
        return "not logged"
