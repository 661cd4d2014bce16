"""Registers what Menagerie adds to Airflow's pages. Plugins load once, when Airflow starts."""

from airflow.plugins_manager import AirflowPlugin

from ml import settings


class MenageriePlugin(AirflowPlugin):
    """A link to MLflow in Airflow's navigation."""

    name = "menagerie"
    external_views = [  # noqa: RUF012  Airflow reads a list
        {"name": "MLflow", "href": settings.read().mlflow_uri, "destination": "nav", "category": "browse"},
    ]
