"""Exits with 0 if MLflow and every part of Airflow say that they are healthy; with 1 and the reason if not."""

import sys

import httpx

from ml import settings

chosen = settings.read()
with httpx.Client(timeout=4.0, trust_env=False) as http:
    try:
        http.get(f"{chosen.mlflow_uri}/health").raise_for_status()
        airflow = http.get(f"{chosen.airflow_url}/api/v2/monitor/health").raise_for_status().json()
    except httpx.HTTPError as error:
        sys.exit(f"{error!r}")
parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
if ill := [part for part in parts if airflow[part]["status"] != "healthy"]:
    sys.exit(f"Not healthy: {', '.join(ill)}")
