import asyncio

import httpx
import pytest
from fastapi import FastAPI
from menagerie.plugin import MenageriePlugin
from menagerie.writers import OneWriter


@pytest.mark.parametrize(("method", "at_once"), [("GET", 5), ("POST", 1), ("PATCH", 1), ("DELETE", 1)])
def test_who_writes_is_alone_and_who_reads_is_not(method: str, at_once: int) -> None:
    inside, most = 0, 0
    app = FastAPI()
    app.add_middleware(OneWriter)

    @app.api_route("/", methods=[method])
    async def answer() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow") as client:
            return await asyncio.gather(*(client.request(method, "/") for _ in range(5)))

    assert all(answer.is_success for answer in asyncio.run(ask()))
    assert most == at_once


@pytest.mark.parametrize(("database", "alone"), [("sqlite:////data/airflow.db", True), ("postgresql://db/a", False)])
def test_writers_take_turns_on_sqlite_alone(monkeypatch: pytest.MonkeyPatch, database: str, alone: bool) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", database)
    assert bool(MenageriePlugin().fastapi_root_middlewares) == alone
