"""An installation of its own for a test: a home with few drawings and one animal, and the ports that it takes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ml.data.sample import draw_samples

T = TypeVar("T")

MENAGERIE = str(Path(sys.executable).with_name("menagerie"))


def install(home: Path, animal: str, *more: str) -> dict[str, str]:
    """Draw photos in `home`, and write the table of the animal, with `more` lines; return the variables to run it."""
    draw_samples(home / "photos", per_class=15, others=4)
    table = [f"[{animal}]", f'positives = ["{animal}/*"]', 'negatives = ["*/*"]', *more]
    (home / "animals.toml").write_text("\n".join(table))
    # MLflow notes the last server that a test of this process talked to in the environment.
    others = ("AIRFLOW", "MENAGERIE", "MLFLOW")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)} | {
        "MENAGERIE_HOME": str(home),
        "MENAGERIE_PHOTOS": str(home / "photos"),
        "MENAGERIE_ANIMALS": str(home / "animals.toml"),
        "MENAGERIE_PRESET": "quick",
        "MENAGERIE_AIRFLOW_PORT": str(free_port()),
        "MENAGERIE_MLFLOW_PORT": str(free_port()),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(condition: Callable[[], T], seconds: float = 120.0, every: float = 0.1) -> T:
    """Return what `condition` says as soon as that counts as true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(every)
    return found


def menagerie(environment: dict[str, str], *arguments: str) -> str:
    """Run a command of Menagerie, which must succeed; return what it printed."""
    ended = subprocess.run(
        [MENAGERIE, *arguments], env=environment, capture_output=True, text=True, timeout=1000, check=False
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout
