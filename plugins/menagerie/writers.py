"""One writer at a time, where Airflow keeps its data in SQLite."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

READING = ("GET", "HEAD", "OPTIONS")


class OneWriter:
    """ASGI middleware that lets requests which may write in one after the other; those that read pass freely.

    Airflow's API server commits some of its writes, such as the audit log's, on its event loop. If meanwhile another
    request has written, and needs the loop to commit that, each waits for the other until SQLite's time is up: nobody
    is answered for so long, tasks and scheduler die of it, and what was asked for last is lost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self.app(scope, receive, send)
        else:
            async with self.turn:
                await self.app(scope, receive, send)
