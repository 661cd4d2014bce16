import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import installation
import pytest

from ml import supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
OWN_GROUP = [sys.executable, "-c", "import os, time; os.fork() or os.setpgid(0, 0); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('!', flush=True); time.sleep(60)",
]
MAIN = """
import sys
from pathlib import Path
from ml.supervisor import Plan, supervise
folder = Path(sys.argv[1])
sys.exit(supervise({plan!r}, folder / "lock", folder, {{"what": "a test"}}))
"""

Programs = Mapping[str, Sequence[str]]
Start = Callable[..., "subprocess.Popen[bytes]"]


wait = partial(installation.wait, seconds=15, every=0.02)


def complaint(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.wait(15) == 1
    assert process.stderr
    return process.stderr.read()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(
        programs: Programs, first: Programs | None = None, then: Programs | None = None
    ) -> subprocess.Popen[bytes]:
        plan = supervisor.Plan(first or {}, {"": programs, **{name: then or {} for name in first or {}}})
        source = MAIN.format(plan=plan)
        process = subprocess.Popen(
            [sys.executable, "-c", source, str(tmp_path)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        wait(lambda: process.poll() is not None or len(supervisor.members(process.pid)) > len(programs))
        return process

    yield start
    for process in started:
        supervisor.end_session(process.pid, grace=0.0)
        process.wait()
        for stream in (process.stdin, process.stderr):
            assert stream
            stream.close()


def test_ends_all_when_its_starter_is_gone(start: Start, tmp_path: Path) -> None:
    process = start({"one": SLEEP, "two": OWN_GROUP})
    wait(lambda: len({os.getpgid(pid) for pid in supervisor.members(process.pid)}) == 2)
    assert process.stdin
    process.stdin.close()
    assert process.wait(15) == 0
    assert supervisor.members(process.pid) == {}
    assert supervisor.running(tmp_path / "lock") is None


def test_goes_on_without_its_starter_when_told_to(start: Start, tmp_path: Path) -> None:
    process = start({"one": SLEEP})
    assert process.stdin
    process.stdin.write(supervisor.KEEP)
    process.stdin.close()
    wait(lambda: (supervisor.running(tmp_path / "lock") or {}).get("kept"))
    time.sleep(0.5)
    assert supervisor.running(tmp_path / "lock") == {"what": "a test", "pid": process.pid, "kept": True}
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert supervisor.members(process.pid) == {}


def test_one_death_ends_all_and_is_explained(start: Start) -> None:
    process = start({"one": SLEEP, "two": [sys.executable, "-c", "print('no room'); raise SystemExit(3)"]})
    errors = complaint(process)
    assert b"two ended unexpectedly (exit status 3)" in errors
    assert b"| no room" in errors
    assert supervisor.members(process.pid) == {}


def test_what_comes_then_waits_for_what_is_first(start: Start, tmp_path: Path) -> None:
    made = tmp_path / "made"
    first = [sys.executable, "-c", f"import time; time.sleep(0.5); open({str(made)!r}, 'w')"]
    then = [sys.executable, "-c", f"print(open({str(made)!r})); import time; time.sleep(60)"]
    process = start({}, first={"first": first}, then={"then": then})
    wait((tmp_path / "then.log").exists)
    time.sleep(0.5)
    assert process.poll() is None


def test_a_failure_of_what_is_first_ends_all(start: Start) -> None:
    process = start({"one": SLEEP}, first={"first": ["false"]}, then={"then": SLEEP})
    errors = complaint(process)
    assert b"first ended unexpectedly" in errors


def test_kills_a_program_that_does_not_listen(start: Start, tmp_path: Path) -> None:
    process = start({"deaf": DEAF})
    wait((tmp_path / "deaf.log").read_text)
    began = time.monotonic()
    supervisor.end_session(process.pid, grace=0.5, reap=process.poll)
    assert time.monotonic() - began < 10
    assert supervisor.members(process.pid) == {}


def test_a_killed_supervisor_leaves_the_lock_to_its_programs(start: Start, tmp_path: Path) -> None:
    process = start({"one": SLEEP})
    wait(lambda: supervisor.running(tmp_path / "lock"))
    process.kill()
    process.wait()
    note = supervisor.running(tmp_path / "lock")
    assert note
    assert note["pid"] == process.pid
    assert not supervisor.is_alive(process.pid)
    supervisor.end_session(process.pid, grace=5.0)
    assert supervisor.running(tmp_path / "lock") is None


def test_a_second_supervisor_refuses(start: Start, tmp_path: Path) -> None:
    start({"one": SLEEP})
    wait(lambda: supervisor.running(tmp_path / "lock"))
    assert b"Another process holds" in complaint(start({"one": SLEEP}))


def test_the_log_before_is_kept(start: Start, tmp_path: Path) -> None:
    for text in ("old", "new"):
        start({"one": [sys.executable, "-c", f"print({text!r})"]}).wait(15)
    assert (tmp_path / "one.log").read_text() == "new\n"
    assert (tmp_path / "one.log.1").read_text() == "old\n"
