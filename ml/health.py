"""Whether all parts of a stack work: asked over HTTP, so of a stack on other machines too."""

import re
from datetime import datetime

import httpx

from ml import animals
from ml.rest import Airflow
from ml.settings import Settings


def missing_parts(
    settings: Settings, http: httpx.Client, mlflow: httpx.Client, airflow: Airflow, since: datetime
) -> list[str]:
    """Return the parts that have not shown since `since` that they work, and DAG files that were not read since then.

    `airflow` is asked once all of its parts are there.
    """
    missing = [] if _answers(mlflow, "/health") is not None else ["mlflow"]
    health = _answers(http, f"{settings.airflow_url}/api/v2/monitor/health")
    if health is None:
        return [*missing, "api-server", "scheduler", "dag-processor", "triggerer"]
    for name in ("scheduler", "dag_processor", "triggerer"):
        beat = health.json()[name][f"latest_{name}_heartbeat"]
        if health.json()[name]["status"] != "healthy" or datetime.fromisoformat(beat) < since:
            missing.append(name.replace("_", "-"))
    return missing or _unparsed(airflow, since, settings)


def _unparsed(airflow: Airflow, since: datetime, settings: Settings) -> list[str]:
    """Return the DAG files whose DAGs, or errors, Airflow doesn't know yet."""
    folder = settings.dags
    files = [path for path in sorted(folder.rglob("*.py")) if re.search(r"@dag\b|\bDAG\(", path.read_text())]
    if not any(animal.gan for animal in animals.read(settings.animals).values()):
        files = [path for path in files if path.name != "gan.py"]  # there is no DAG in it then
    errors = airflow.all("importErrors", "import_errors")
    known = [(dag["relative_fileloc"], dag["last_parsed_time"]) for dag in airflow.all("dags", "dags")]
    known += [(error["filename"], error["timestamp"]) for error in errors]
    parsed = {str(folder / name) for name, at in known if name and at and datetime.fromisoformat(at) >= since}
    return [path.name for path in files if str(path) not in parsed]


def _answers(http: httpx.Client, url: str) -> httpx.Response | None:
    try:
        answer = http.get(url)
    except httpx.HTTPError:
        return None
    return answer if answer.is_success else None
