"""MLflow's runs, models and artifacts over its REST API: the API server must stay small, and never imports MLflow."""

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import httpx

from ml.addresses import is_local
from ml.errors import ServiceError

TAG = "menagerie."
LARGEST_PICTURE, MOST_PIXELS = 16_000_000, 64_000_000
THUMBNAIL = 720
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Run:
    """A run in MLflow: that of a DAG run, of a stage, or of a fold."""

    id: str
    experiment: str
    status: str
    started: datetime
    ended: datetime | None
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> "Run":
        info, data = answer["info"], answer.get("data", {})
        pairs = {kind: {each["key"]: each["value"] for each in data.get(kind, [])} for kind in ("params", "tags")}
        metrics = {each["key"]: float(each.get("value", math.nan)) for each in data.get("metrics", [])}
        return cls(
            info["run_id"],
            info["experiment_id"],
            info["status"],
            time_of(info["start_time"]),
            time_of(info["end_time"]) if info.get("end_time") else None,
            {name: value for name, value in metrics.items() if math.isfinite(value)},
            **pairs,
        )

    def tag(self, name: str) -> str:
        return self.tags.get(TAG + name, "")

    @property
    def parent(self) -> str:
        return self.tags.get("mlflow.parentRunId", "")

    @property
    def stages(self) -> dict[str, str]:
        """The runs that hold the outcome of this DAG run's stages, by stage, in the order of their names."""
        prefix = f"{TAG}stage."
        return {tag.removeprefix(prefix): run for tag, run in sorted(self.tags.items()) if tag.startswith(prefix)}

    @property
    def at(self) -> datetime:
        """When it ended, or if it hasn't, when it started."""
        return self.ended or self.started


class Mlflow:
    """A connection to MLflow's REST API. Threads may share it.

    Every call raises `ServiceError` if MLflow doesn't answer in time, or refuses.
    """

    def __init__(self, uri: str, login: tuple[str, str] | None = None, timeout: float = 10.0) -> None:
        self.uri = uri.rstrip("/")
        self._http = httpx.Client(
            base_url=self.uri,
            auth=login,
            timeout=httpx.Timeout(timeout, connect=3.0),
            trust_env=not is_local(self.uri),
        )
        self._threads = ThreadPoolExecutor(8, "menagerie-page")
        self._experiments: dict[str, str] = {}
        self._ours: set[str] = set()
        self.picture = lru_cache(maxsize=32)(self._picture)
        self.thumbnail = lru_cache(maxsize=256)(self._thumbnail)
        self.plots = lru_cache(maxsize=1024)(self._plots)

    def experiments(self, names: Sequence[str]) -> dict[str, str]:
        """Return the experiments of these names that there are: their ids, which never change."""
        if any(name not in self._experiments for name in names):
            answer = self._get("experiments/search", max_results=1000)
            self._experiments = {each["name"]: each["experiment_id"] for each in answer.get("experiments", [])}
        return {name: self._experiments[name] for name in names if name in self._experiments}

    def champions(self) -> dict[str, dict[str, Any]]:
        """Return the version that is the champion, as MLflow describes it, by registered model."""
        answer = self._get("registered-models/search", filter="name LIKE '%-classifier'", max_results=1000)
        champions = {}
        for model in answer.get("registered_models", []):
            versions = [each["version"] for each in model.get("aliases", []) if each["alias"] == "champion"]
            for version in versions:
                known = {each["version"]: each for each in model.get("latest_versions", [])}
                champions[model["name"]] = known.get(version) or self._version(model["name"], version)
        return champions

    def runs(self, experiments: Sequence[str], clauses: str, limit: int) -> list[Run]:
        """Return the newest runs for which `clauses`, in MLflow's filter language, hold."""
        if not experiments:
            return []
        order = ["attributes.start_time DESC"]
        body = {"experiment_ids": list(experiments), "filter": clauses, "max_results": limit, "order_by": order}
        return [Run.read(each) for each in self._ask("POST", "runs/search", json=body).get("runs", [])]

    def named(self, experiments: Sequence[str], ids: Iterable[str]) -> dict[str, Run]:
        """Return the runs with these ids, by id."""
        wanted = sorted({run_id for run_id in ids if run_id.isalnum()})
        if not wanted:
            return {}
        quoted = ", ".join(f"'{run_id}'" for run_id in wanted)
        found = self.runs(experiments, f"attributes.run_id IN ({quoted})", len(wanted))
        return {run.id: run for run in found}

    def owns(self, run_id: str, animals: Sequence[str]) -> bool:
        """Return whether the run is in the experiment of one of the animals."""
        if run_id not in self._ours:
            try:
                info = self._get("runs/get", run_id=run_id)["run"]["info"]
            except LookupError:
                return False
            if info["experiment_id"] not in self.experiments(animals).values():
                return False
            self._ours.add(run_id)
        return True

    @contextmanager
    def artifact(self, run_id: str, path: str) -> Iterator[httpx.Response]:
        """Open a file of a run, to be read piece by piece.

        Raises:
            LookupError: there is no such file.
        """
        with self._translated():
            asked = {"run_uuid": run_id, "path": path}
            with self._http.stream("GET", "/get-artifact", params=asked, timeout=20.0) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise LookupError(f"Run {run_id} has no {path}.")
                if not answer.is_success:
                    answer.read()
                self._check(answer)
                yield answer

    def all(self, *calls: Callable[[], Any]) -> list[Any]:
        """Return what the calls return; they are made at once."""
        return [promise.result() for promise in [self._threads.submit(call) for call in calls]]

    def _plots(self, run_id: str, at: int) -> frozenset[str]:
        """Return the names of the pictures that a run had at the time `at`; a run that is gone has none."""
        try:
            files = self._get("artifacts/list", run_id=run_id, path="plots").get("files", [])
        except LookupError:
            return frozenset()
        paths = [file["path"] for file in files if not file.get("is_dir")]
        return frozenset(path.removeprefix("plots/").removesuffix(".png") for path in paths if path.endswith(".png"))

    def _picture(self, run_id: str, name: str, at: int) -> bytes:
        """Return the PNG `plots/<name>.png` of a run.

        Raises:
            LookupError: there is none, or it is no PNG.
        """
        content = b""
        with self.artifact(run_id, f"plots/{name}.png") as answer:
            for piece in answer.iter_bytes():
                content += piece
                if not content.startswith(PNG[: len(content)]) or len(content) > LARGEST_PICTURE:
                    raise LookupError(f"{name} of run {run_id} is no picture")
        return content

    def _thumbnail(self, run_id: str, name: str, at: int) -> bytes:
        """Return a picture of a run as a WebP of at most `THUMBNAIL` pixels a side: a tenth of the PNG's bytes.

        Raises:
            LookupError: there is none, or it is not a PNG of a size that can be a figure's.
        """
        from PIL import Image

        packed = io.BytesIO()
        try:
            with Image.open(io.BytesIO(self.picture(run_id, name, at)), formats=["PNG"]) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise LookupError(f"{name} of run {run_id} is too large")
                small = image.convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            small.save(packed, "WEBP", quality=80)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise LookupError(f"{name} of run {run_id} can't be shown: {error}") from error
        return packed.getvalue()

    def _version(self, name: str, version: str) -> dict[str, Any]:
        return self._get("model-versions/get", name=name, version=version)["model_version"]

    def _get(self, path: str, /, **params: Any) -> dict[str, Any]:
        return self._ask("GET", path, params=params)

    def _ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        with self._translated():
            answer = self._http.request(method, f"/api/2.0/mlflow/{path}", **arguments)
            self._check(answer)
            return json.loads(answer.content)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise ServiceError(f"MLflow at {self.uri} doesn't answer: {str(error) or type(error).__name__}") from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise LookupError(answer.request.url.path)
        if not answer.is_success:
            raise ServiceError(f"MLflow at {self.uri} refused: {answer.status_code} {answer.text[:300]}")


def time_of(milliseconds: Any) -> datetime:
    """Return a time that MLflow gives, in milliseconds since 1970, as UTC."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
