"""Programs that run together in one session: when one dies, or nobody wants them any more, all of them end.

A session (`setsid`) rather than a process group, because Airflow puts each task into a process group of its own,
which would outlive the group of the programs. Neither the titles nor the environments of processes would tell who
belongs here: Airflow writes over both.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import psutil  # type: ignore[import-untyped]

KEEP = b"keep"
"""Written to a supervisor's standard input: go on when it closes."""

Command = Sequence[str]


@dataclass(frozen=True)
class Plan:
    """What a supervisor runs: all of `first` at once, and the programs of `then` each when its key of `first` has ended
    with success, or at once if `first` has no such key."""

    first: Mapping[str, Command]
    then: Mapping[str, Mapping[str, Command]]
    cut: frozenset[str] = frozenset()
    """Programs that would wait for their children when they are asked to end: the children are killed."""


def supervise(plan: Plan, lock: Path, logs: Path, note: Mapping[str, Any]) -> int:
    """Run `plan` as the leader of a session until a program dies, a signal comes, or standard input closes.

    Args:
        plan: the programs; each writes to `<logs>/<name>.log`, and its last run's log is `<name>.log.1`.
        lock: file that is locked for as long as a process of the session lives, and holds `note`, the
            supervisor's `pid` and whether the stack is `kept` when its starter is gone, as JSON.

    Returns:
        The exit status: 0 when it was asked to end, 1 when a program died, as standard error then tells.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    running: dict[str, subprocess.Popen[bytes]] = {}
    with open(lock, "a+") as held:
        if not _locked(held, patience=2.0):
            return _complain(f"Another process holds {lock}: it is starting or ending the same stack.")
        state = {**note, "pid": os.getpid(), "kept": False}
        _write(held, state)

        def start(programs: Mapping[str, Command]) -> None:
            for name, command in programs.items():
                running[name] = _start(command, logs / f"{name}.log", held)

        try:
            start(plan.first)
            waiting = dict(plan.then)
            while True:
                for name in waiting.keys() - running.keys():
                    start(waiting.pop(name))
                if state["kept"]:
                    time.sleep(0.2)
                elif select.select([0], [], [], 0.2)[0]:
                    if os.read(0, 64) != KEEP:
                        return 0
                    state["kept"] = True
                    _write(held, state)
                for name, program in list(running.items()):
                    status = program.poll()
                    if status == 0 and name in plan.first:
                        del running[name]
                    elif status is not None:
                        end = tail(logs / f"{name}.log")
                        return _complain(f"{name} ended unexpectedly ({_how(status)}).\n{end}")
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            cut = [child for name in plan.cut & running.keys() for child in _descendants(running[name].pid)]
            end_session(os.getpid(), grace=5.0, cut=cut, reap=lambda: [p.poll() for p in running.values()])


def running(lock: Path) -> dict[str, Any] | None:
    """Return what the supervisor of `lock` noted, or None when no process of its session lives."""
    try:
        with open(lock) as held:
            while not _locked(held):
                held.seek(0)
                with suppress(ValueError):  # it is being written
                    return dict(json.load(held))
                time.sleep(0.02)
    except FileNotFoundError:
        pass
    return None


def is_alive(supervisor: int) -> bool:
    """Whether the supervisor of this id lives, and not only what it has started."""
    return supervisor in members(supervisor)


def end_session(
    session: int, *, grace: float, cut: Sequence[int] = (), reap: Callable[[], object] = lambda: None
) -> None:
    """End the processes of `session`, this one apart: those in `cut` at once, the others within `grace` seconds.

    Programs are asked to end; what they leave behind is killed.
    """
    found = members(session)
    programs = {pid for pid, parent in found.items() if parent == session or parent not in found}
    _signal(programs, signal.SIGTERM)
    _signal(cut, signal.SIGKILL)
    deadline = time.monotonic() + grace
    while left := members(session).keys() - {os.getpid()}:
        if not left & programs or time.monotonic() > deadline:
            _signal(left, signal.SIGKILL)
        time.sleep(0.1)
        reap()


def members(session: int) -> dict[int, int]:
    """Return the processes of `session`, each with its parent; the dead that nobody has reaped are left out."""
    found = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.ppid()
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def tail(log: Path, lines: int = 15) -> str:
    """Return the end of a log, and where the rest is."""
    try:
        last = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        last = []
    return "\n".join([f"The last lines of {log}:", *(f"  | {line}" for line in last)])


def _start(command: Command, log: Path, held: TextIO) -> subprocess.Popen[bytes]:
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    with open(log, "wb") as out:
        # The lock's descriptor goes along, so that the lock is free when the last of the session is gone.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, pass_fds=[held.fileno()]
        )


def _descendants(pid: int) -> list[int]:
    """Parents first, so that none lives to see its child's death and to report it."""
    try:
        process = psutil.Process(pid)
        children = process.children()
        return [child.pid for child in children] + [child.pid for child in process.children(recursive=True)]
    except psutil.Error:
        return []


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _locked(file: TextIO, patience: float = 0.0) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)


def _write(held: TextIO, state: Mapping[str, Any]) -> None:
    held.truncate(0)
    held.write(json.dumps(state))
    held.flush()


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def _complain(message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return 1


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)
