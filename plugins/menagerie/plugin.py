"""Registers what Menagerie adds to Airflow's pages. Plugins load once, when Airflow starts."""

import base64
from functools import cached_property
from typing import Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from menagerie import links
from ml import mlflow_pages, settings

PAW = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="{colour}">
<ellipse cx="5" cy="11" rx="2" ry="2.7"/><ellipse cx="9.3" cy="6.4" rx="2.1" ry="3"/>
<ellipse cx="14.7" cy="6.4" rx="2.1" ry="3"/><ellipse cx="19" cy="11" rx="2" ry="2.7"/>
<path d="M12 11c-3 0-6 4-6 6.6 0 2 1.5 2.9 3 2.9 1.2 0 1.9-.6 3-.6s1.8.6 3 .6c1.5 0 3-.9 3-2.9 0-2.6-3-6.6-6-6.6z"/>
</svg>"""


def _icon(colour: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(PAW.format(colour=colour).encode()).decode()


class MenageriePlugin(AirflowPlugin):
    """The Menagerie page and a link to MLflow in Airflow's navigation, and buttons on tasks."""

    name = "menagerie"
    external_views = [  # noqa: RUF012  Airflow reads a list
        {
            "name": "Menagerie",
            "href": "menagerie/",  # below Airflow's own address, wherever that is
            "destination": "nav",
            "url_route": "menagerie",
            "nav_top_level": True,
            "icon": _icon("#d9772b"),
        },
        {
            "name": "MLflow",
            "href": mlflow_pages.page(settings.read().mlflow_link),
            "destination": "nav",
            "category": "browse",
        },
    ]
    global_operator_extra_links = [links.RunLink(), links.ReportLink(), links.DocsLink()]  # noqa: RUF012

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page's application; only the API server asks for it, and only there it is made."""
        from menagerie import api

        return [{"app": api.make_app(settings.read()), "url_prefix": "/menagerie", "name": "Menagerie"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """What all requests to Airflow pass."""
        from menagerie.writers import OneWriter

        sqlite = conf.get("database", "sql_alchemy_conn").startswith("sqlite")
        return [{"middleware": OneWriter, "name": "One writer at a time"}] if sqlite else []
