"""The routes of the Menagerie page. Airflow doesn't guard what plugins mount: every route here asks for its login."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import jinja2
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi import Path as Segment
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from menagerie import queries, tasks
from menagerie.chart import chart
from menagerie.store import Mlflow, Run
from menagerie.tasks import Task
from ml import animals, mlflow_pages
from ml.data import first_photos
from ml.data.signature import caveat
from ml.errors import MenagerieError, ServiceError
from ml.settings import Settings

logged_in = requires_access_view(AccessView.WEBSITE)
"""The guard: 401 without Airflow's login, 403 without the right to see Airflow's pages."""

RunId = Annotated[str, Segment(pattern="^[0-9a-f]{32}$")]
PictureName = Annotated[str, Segment(pattern="^[a-z0-9_]{1,60}$")]
AirflowName = Annotated[str, Query(pattern="^[A-Za-z0-9_.~:+ -]{0,250}$")]
"""An id in Airflow, with nothing in it that means something in MLflow's filters."""

PAGE = "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
REPORT = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox allow-popups allow-top-navigation"
EVERYWHERE = "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
"""Airflow shows the page in a frame, and nobody else may."""


def make_app(settings: Settings) -> FastAPI:
    """Return the application that Airflow mounts."""
    app = FastAPI(dependencies=[Depends(logged_in)], docs_url=None, redoc_url=None, openapi_url=None)
    mlflow = Mlflow(settings.mlflow_uri, settings.mlflow_login)
    templates = _templates(settings)

    def names() -> list[str]:
        return list(animals.read(settings.animals))

    def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        text = templates.get_template(template).render(nonce=nonce, now=datetime.now(UTC), **values)
        return HTMLResponse(text, status, _headers(PAGE.format(nonce=nonce)) | {"Cache-Control": "no-store"})

    def require_ours(run_id: str) -> None:
        if not mlflow.owns(run_id, names()):
            raise HTTPException(404, "No animal has such a run.")

    @app.exception_handler(LookupError)
    def missing(_: Any, error: Exception) -> Response:
        return render("trouble.html", 404, error=str(error), trouble="missing")

    @app.exception_handler(MenagerieError)
    def trouble(_: Any, error: Exception) -> Response:
        trouble = "down" if isinstance(error, ServiceError) else "settings"
        return render("trouble.html", 503, error=str(error), trouble=trouble)

    @app.get("/")
    def page() -> HTMLResponse:
        """Show every animal."""
        seen = queries.overview(mlflow, names())
        charts = {view.name: chart(view.history) for view in seen.animals}
        lacking = not settings.photos_url and not first_photos.has_files(settings.photos)
        sample = first_photos.sample_command(settings.photos) if lacking else ""
        values = {"charts": charts, "lacking": lacking, "sample_command": sample}
        faults = animals.all_faults(settings.animals)
        return render("page.html", views=seen.animals, faults=faults, **values, **seen._asdict())

    @app.get("/now")
    def now() -> HTMLResponse:
        """Show what runs: a part of the page, fetched again and again."""
        return render("now.html", works=queries.running(mlflow, names()))

    @app.get("/picture/{run_id}/{name}.png")
    def picture(run_id: RunId, name: PictureName, at: int = 0) -> Response:
        """Pass on a picture of a run."""
        require_ours(run_id)
        headers = _headers("default-src 'none'") | {"Cache-Control": "private, max-age=604800, immutable"}
        return Response(mlflow.picture(run_id, name, at), headers=headers, media_type="image/png")

    @app.get("/thumbnail/{run_id}/{name}.webp")
    def thumbnail(run_id: RunId, name: PictureName, at: int = 0) -> Response:
        """Pass on a picture of a run, made small."""
        require_ours(run_id)
        headers = _headers("default-src 'none'") | {"Cache-Control": "private, max-age=604800, immutable"}
        return Response(mlflow.thumbnail(run_id, name, at), headers=headers, media_type="image/webp")

    @app.get("/report/{run_id}")
    def report(run_id: RunId) -> Response:
        """Pass on the report of a DAG run: a page that carries its pictures, so it may be large."""
        require_ours(run_id)
        pieces = _pieces(mlflow, run_id)
        first = next(pieces)  # what is wrong shows here, before the answer has begun
        headers = _headers(REPORT) | {"Cache-Control": "private, no-cache"}
        return StreamingResponse(_after(first, pieces), headers=headers, media_type="text/html; charset=utf-8")

    @app.get("/task/{what}")
    def of_task(
        what: Literal["run", "report", "docs"],
        dag: AirflowName,
        run: AirflowName,
        task: AirflowName,
        instance: AirflowName = "",
    ) -> Response:
        """Lead from a task in Airflow to what MLflow keeps of it: the buttons of `menagerie.links` come here."""
        asked = Task(dag, run, task, instance)
        where = mlflow.experiments([*names(), queries.SCORES, queries.SCANS])
        match what:
            case "run":
                found = tasks.run_of(mlflow, where, asked)
                return RedirectResponse(run_page(tasks.stage_of(mlflow, found, asked)))
            case "docs":
                return RedirectResponse(run_page(tasks.docs_of(mlflow, where, asked), "artifacts/data_docs"))
            case "report":
                return RedirectResponse(f"../report/{tasks.run_of(mlflow, where, asked).id}")

    def run_page(run: Run, part: str = "") -> str:
        return mlflow_pages.page(settings.mlflow_link, run.experiment, run.id, part)

    return app


def _pieces(mlflow: Mlflow, run_id: str) -> Iterator[bytes]:
    with mlflow.artifact(run_id, "report.html") as answer:
        yield from answer.iter_bytes()


def _after(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": f"{policy}; {EVERYWHERE}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }


def _templates(settings: Settings) -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "share": _share,
        "day": _day,
        "minute": _minute,
        "lasting": _lasting,
        "combined": lambda first, second: first | second,
        "segment": lambda text: quote(text, ""),
    }
    environment.globals |= {
        "ago": _ago,
        "caveat": caveat,
        "mlflow_page": partial(mlflow_pages.page, settings.mlflow_link),
        "photos": settings.root(),
        "logs": settings.home / "logs",
    }
    return environment


def _share(value: float | str | None) -> str:
    """Return a share of 1, a number or its text, as a percentage."""
    try:
        return f"{float('' if value is None else value):.1%}"
    except ValueError:
        return "unknown"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def _minute(at: datetime) -> str:
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _ago(at: datetime, now: datetime) -> str:
    return _lasting((now - at).total_seconds())


def _lasting(seconds: float) -> str:
    """Return a time in the largest fitting unit."""
    whole = max(0, round(seconds))
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if whole >= size:
            return f"{whole // size} {unit}{'s' if whole >= 2 * size else ''}"
    return f"{whole} s"
