"""A client of Airflow's REST API, version 2."""

import time
from typing import Any

import httpx

from ml.errors import ServiceError


class Airflow:
    """Airflow at `url`, as its user `user`. Paths are those below `/api/v2/`; answers are decoded JSON.

    Raises:
        ServiceError: Airflow doesn't answer, or refuses.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30.0, trust_env=False)
        self._login = {"username": user, "password": password}

    def get(self, path: str, **params: Any) -> Any:
        """Read; a read that fails is tried again for a few seconds."""
        for pause in (0.5, 1.0, 2.0):
            try:
                return self._ask("GET", path, params=params)
            except ServiceError:
                time.sleep(pause)
        return self._ask("GET", path, params=params)

    def all(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """Read a collection: the items under `key`, of every page."""
        items: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(items), **params)
            items += page[key]
            if not page[key] or len(items) >= page["total_entries"]:
                return items

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PATCH", path, json=body)

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            if "Authorization" not in self._http.headers:
                token = self._checked(self._http.post("/auth/token", json=self._login))["access_token"]
                self._http.headers["Authorization"] = f"Bearer {token}"
            answer = self._http.request(method, f"/api/v2/{path}", **arguments)
        except httpx.HTTPError as error:
            raise ServiceError(f"Airflow at {self._http.base_url} doesn't answer: {error!r}") from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            del self._http.headers["Authorization"]
        return self._checked(answer)

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_error:
            asked = f"{answer.request.method} {answer.request.url.path}"
            raise ServiceError(f"Airflow refused {asked}: {answer.status_code} {answer.text[:500]}")
        return answer.json()
