"""Exits with 0 if the parts named (default: all) say that they are healthy; with 1 and the reason if not.

Parts: mlflow, api-server, scheduler, dag-processor, triggerer; and worker, that of this container.
"""

import os
import socket
import sys
from urllib.parse import urljoin

import httpx

from ml import settings

AIRFLOW = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}


def main(parts: list[str]) -> str:
    """Return what ails, or nothing."""
    if parts == ["worker"]:
        return _worker()
    chosen = settings.read()
    # The API server knows of the others, by what they last told the database.
    api_server = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL") or chosen.airflow_url
    with httpx.Client(timeout=8.0, trust_env=False) as http:
        try:
            if "mlflow" in parts:
                http.get(f"{chosen.mlflow_uri}/health").raise_for_status()
            if parts == ["mlflow"]:
                return ""
            health = http.get(urljoin(api_server, "/api/v2/monitor/health")).raise_for_status().json()
        except httpx.HTTPError as error:
            return repr(error)
    ill = [part for part in parts if part in AIRFLOW and health[AIRFLOW[part]]["status"] != "healthy"]
    return f"Not healthy: {', '.join(ill)}" if ill else ""


def _worker() -> str:
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    with Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"]) as celery:
        return "" if celery.control.ping([name], timeout=20.0) else f"{name} doesn't answer"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["mlflow", *AIRFLOW]) or 0)
