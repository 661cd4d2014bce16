import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ml import progress
from ml.progress import Progress


class Listener:
    """Hears reports, and waits for them."""

    def __init__(self) -> None:
        self.heard: list[Progress] = []
        self._came = threading.Condition()

    def __call__(self, report: Progress) -> None:
        with self._came:
            self.heard.append(report)
            self._came.notify_all()

    def wait(self, text: str) -> Progress:
        """Return the newest report, when it says this."""
        with self._came:
            assert self._came.wait_for(lambda: bool(self.heard) and self.heard[-1].text == text, timeout=5)
            return self.heard[-1]


@contextmanager
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Stop the time during the block; what is yielded sets it forth by seconds."""
    now = [1000.0]
    with monkeypatch.context() as patched:
        patched.setattr(progress.time, "time", lambda: now[0])
        yield lambda seconds: now.__setitem__(0, now[0] + seconds)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_it_says_where_it_is_in_every_loop_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    with clock(monkeypatch) as wait, progress.reporting(listener):
        for fold in progress.each("fold", range(1, 6)):
            assert listener.wait(f"fold {fold} of 5").share == pytest.approx((fold - 1) / 5)
            for epoch in (1, 2):
                wait(60 if fold == epoch == 1 else 10)  # in the first step, the network is built
                progress.tell("epoch", epoch, 2, loss=0.43212, accuracy=1.0)
                told = listener.wait(f"fold {fold} of 5, epoch {epoch} of 2: loss 0.432, accuracy 1")
                assert told.share == pytest.approx((fold - 1) / 5 + epoch / 10)
                left = None if fold == epoch == 1 or fold * epoch == 10 else pytest.approx((1 - told.share) * 100)
                assert told.left == left
    assert told.at == 1150.0


def test_what_an_earlier_try_did_makes_this_one_no_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    with clock(monkeypatch) as wait, progress.reporting(listener), progress.part("fold", 4, 5):
        listener.wait("fold 4 of 5")
        for epoch in (1, 2):
            wait(30)
            progress.tell("epoch", epoch, 4)
            told = listener.wait(f"fold 4 of 5, epoch {epoch} of 4")
    assert told.left == pytest.approx(30 * 6)


def test_a_new_outermost_loop_begins_a_new_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    with clock(monkeypatch) as wait, progress.reporting(listener):
        for trial in (1, 2, 3):
            progress.tell("trial", trial, 5)
            left = listener.wait(f"trial {trial} of 5").left
            wait(100)
        assert left == pytest.approx(200)
        for photo in (64, 96, 128):
            progress.tell("photo", photo, 1280)
            left = listener.wait(f"photo {photo} of 1,280").left
            wait(1)
        assert left == pytest.approx(36)


def test_only_the_newest_is_passed_on_and_not_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.1)
    listener, started = Listener(), time.monotonic()
    with progress.reporting(listener):
        number = 0
        while time.monotonic() - started < 0.5:
            number += 1
            progress.tell("step", number, 10_000_000)
            time.sleep(0.001)
        told = len(listener.heard)
    assert 3 <= told <= 6
    steps = [int(report.text.split()[1].replace(",", "")) for report in listener.heard]
    assert steps == sorted(steps)
    assert steps[-1] > number / 2


def test_a_listener_that_fails_or_hangs_does_no_harm() -> None:
    def fail(report: Progress) -> None:
        raise ConnectionError("MLflow is gone")

    with progress.reporting(fail):
        for _ in progress.each("fold", "ab"):
            time.sleep(0.01)

    release, started = threading.Event(), time.monotonic()
    with progress.reporting(lambda report: release.wait() and None):
        for _ in progress.each("fold", "ab"):
            progress.tell("epoch", 1, 1)
    release.set()
    assert time.monotonic() - started < 3


def test_nobody_need_listen_and_nothing_is_heard_afterwards() -> None:
    listener = Listener()
    progress.tell("epoch", 1, 2)
    with progress.reporting(listener), pytest.raises(ZeroDivisionError):
        for _ in progress.each("fold", "ab"):
            progress.tell("epoch", 1, 2, loss=1 / 0)
    told = len(listener.heard)
    assert list(progress.each("fold", "ab")) == ["a", "b"]
    progress.tell("epoch", 1, 2)
    time.sleep(0.02)
    assert len(listener.heard) == told


def test_it_costs_a_loop_next_to_nothing() -> None:
    """A step of the smallest network takes milliseconds."""
    with progress.reporting(lambda report: None):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            for step in range(1000):
                progress.tell("step", step, 1000, loss=0.1)
            times.append((time.perf_counter() - started) / 1000)
    assert min(times) < 100e-6


@pytest.mark.parametrize("report", [Progress("fold 1 of 5", 0.0, None, 1.5), Progress("ä", 0.25, 12.0, 1.0)])
def test_it_survives_as_text(report: Progress) -> None:
    assert Progress.from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"text": "a", "share": null, "left": 1, "at": 1}'])
def test_another_text_is_none(text: str) -> None:
    assert Progress.from_json(text) is None
