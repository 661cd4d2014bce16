"""How far a long task is: told by its loops, heard by whoever watches. Where nobody listens, telling does nothing.

    for fold in progress.each("fold", folds):
        for epoch in range(epochs):
            ...
            progress.tell("epoch", epoch + 1, epochs, loss=0.43)

says *fold 2 of 5, epoch 7 of 30: loss 0.43*, the share of the folds that is done, and the time that is left.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")

EVERY = 2.0
"""Least seconds between two reports."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a task is."""

    text: str
    """Where it is, in every loop that runs, and the last numbers."""
    share: float
    """Of the outermost loop, from 0 to 1."""
    left: float | None
    """Seconds that the outermost loop still takes at its pace so far; `None` if it has none yet, or is done."""
    at: float
    """When this was so, in seconds since 1970."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress | None":
        """Return what `to_json` wrote, or `None` if it is something else."""
        try:
            values = json.loads(text)
            left = values["left"]
            return cls(
                str(values["text"]),
                float(values["share"]),
                None if left is None else float(left),
                float(values["at"]),
            )
        except (ValueError, TypeError, KeyError):
            return None


def tell(unit: str, done: float, of: int, **numbers: float) -> None:
    """Say that in the innermost loop `done` of `of` epochs, photos or trials are done, and what the numbers are."""
    if reporter := _reporter.get():
        reporter.hear((*reporter.parts, _Loop(unit, done, of, done)), numbers)


@contextmanager
def part(unit: str, number: int, of: int, **numbers: float) -> Iterator[None]:
    """Say that part `number`, from 1, of a loop begins; what is told in the block, is told of it."""
    reporter = _reporter.get()
    if reporter is None:
        yield
        return
    around = reporter.parts
    reporter.parts = (*around, _Loop(unit, number, of, number - 1))
    reporter.hear(reporter.parts, numbers)
    try:
        yield
    finally:
        reporter.parts = around


def each(unit: str, items: Sequence[Item]) -> Iterator[Item]:
    """Iterate over the items, each a `part`."""
    for number, item in enumerate(items, start=1):
        with part(unit, number, len(items)):
            yield item


@contextmanager
def reporting(send: Callable[[Progress], None]) -> Iterator[None]:
    """Pass on what is told in the block: the first word at once, then the newest every `EVERY` seconds.

    `send` is called in a thread of its own, so that it may be slow, and what it raises is only logged. Of what is told
    last, it may not hear.
    """
    reporter = _Reporter(send)
    reporter.start()
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
        reporter.end()


class _Loop(NamedTuple):
    unit: str
    number: float
    of: int
    done: float


class _News(NamedTuple):
    loops: tuple[_Loop, ...]
    numbers: dict[str, float]
    at: float


class _Reporter(threading.Thread):
    def __init__(self, send: Callable[[Progress], None]) -> None:
        super().__init__(name="progress", daemon=True)
        self.parts: tuple[_Loop, ...] = ()
        self._send = send
        self._news = _News((), {}, 0.0)
        self._heard, self._ended = threading.Event(), threading.Event()
        self._pace = _Pace()

    def hear(self, loops: tuple[_Loop, ...], numbers: dict[str, float]) -> None:
        self._news = _News(loops, numbers, time.time())
        self._heard.set()

    def end(self) -> None:
        self._ended.set()
        self._heard.set()
        self.join(timeout=1.0)  # a word on its way should not arrive after the task has ended

    def run(self) -> None:
        while self._heard.wait() and not self._ended.is_set():
            self._heard.clear()
            try:
                self._send(self._pace.progress(self._news))
            except Exception as error:  # progress that can't be told is no reason to fail
                log.debug("progress was not told: %r", error)
            self._ended.wait(EVERY)


class _Pace:
    """Estimates the time left of the outermost loop from its pace, less its first step, in which networks are built."""

    def __init__(self) -> None:
        self._loop, self._first = ("", 0), 0.0
        self._begun: tuple[float, float] | None = None
        """When the first step had ended, and the share that was done then."""

    def progress(self, news: _News) -> Progress:
        share, width = 0.0, 1.0
        for loop in news.loops:
            share += width * loop.done / loop.of
            width /= loop.of
        said = [loop for loop in news.loops if loop.of > 1] or news.loops
        where = ", ".join(f"{loop.unit} {loop.number:,.0f} of {loop.of:,}" for loop in said)
        numbers = ", ".join(f"{name} {float(value):.3g}" for name, value in news.numbers.items())
        left = self._left(news.loops[0], share, news.at)
        return Progress(f"{where}: {numbers}" if numbers else where, min(share, 1.0), left, news.at)

    def _left(self, outermost: _Loop, share: float, at: float) -> float | None:
        if (outermost.unit, outermost.of) != self._loop or share < self._first:
            self._loop, self._first, self._begun = (outermost.unit, outermost.of), share, None
        elif self._begun is None and share > self._first:
            self._begun = at, share
        elif self._begun and self._begun[1] < share < 1:
            since, done = self._begun
            return (at - since) * (1 - share) / (share - done)
        return None


_reporter: ContextVar[_Reporter | None] = ContextVar("reporter", default=None)
