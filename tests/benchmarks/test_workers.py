"""What a second worker gives: the searches of a thorough tuning, by one and by two, on two cores."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pandas as pd
import pytest
from world import make_settings

from ml.params import RetrainParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import prepare, search

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
MOST = 0.65
LESS = {"preset": "thorough", "tune_trials": 10, "tune_epochs": 10}
"""The thorough preset with a quarter of its trials and a third of its epochs."""
WORKER = """
import json, sys
import keras
import numpy as np
from ml import settings
from ml.models import hypermodel
from ml.stages import search
from ml.stages.job import Job

hypermodel.build(hypermodel.START[0], 0, epochs=1, steps=1).predict_on_batch(np.zeros((1, 64, 64, 3), np.uint8))
keras.backend.clear_session()
job = Job.from_dict(json.loads(sys.argv[1]), settings.read())
print("ready", flush=True)
for name in sys.stdin:
    print(search.run(job, name.strip()).run_id, flush=True)
"""


def heard(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    return worker.stdout.readline().strip()


@contextmanager
def working(n: int, job: dict[str, object], settings: Settings) -> Iterator[list[subprocess.Popen[str]]]:
    """Start workers of one thread each, and wait until they have imported what they need."""
    ours = {"HOME": settings.home, "PHOTOS": settings.photos, "ANIMALS": settings.animals}
    env = os.environ | {f"MENAGERIE_{name}": str(path) for name, path in ours.items()}
    env |= dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    env |= {"MLFLOW_TRACKING_URI": settings.mlflow_uri, "TF_CPP_MIN_LOG_LEVEL": "3"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(job)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(n)
    ]
    try:
        assert [heard(worker) for worker in workers] == ["ready"] * n
        yield workers
    finally:
        for worker in workers:
            worker.terminate()
            worker.communicate()


def searched(n: int, settings: Settings) -> tuple[float, dict[str, pd.DataFrame]]:
    """Let `n` workers take turns at the searches of a retraining that knows of no earlier one.

    Return the seconds that they took, and each search's trials.
    """
    own = make_settings(settings.home.with_name(f"home-{n}"), settings.photos)
    shutil.copytree(settings.home, own.home)
    job = prepare.run("fox", RetrainParams.read(LESS), own, DagRun("retrain_fox", f"{n} workers"))
    waiting, runs, took = search.searches(job), {}, {}
    with working(n, job.to_dict(), own) as workers:

        def take_turns(worker: subprocess.Popen[str]) -> None:
            while waiting:
                name, started = waiting.pop(0), time.perf_counter()
                print(name, file=worker.stdin, flush=True)
                runs[name] = heard(worker)
                took[name] = time.perf_counter() - started

        turns = [Thread(target=take_turns, args=[worker]) for worker in workers]
        started = time.perf_counter()
        for turn in turns:
            turn.start()
        for turn in turns:
            turn.join()
        elapsed = time.perf_counter() - started
    print(f"\n{n} at work: {elapsed:.0f} s;", ", ".join(f"{name} {spent:.0f} s" for name, spent in took.items()))
    tables = {name: job.tracker.read_table(run_id, search.TRIALS) for name, run_id in runs.items()}
    return elapsed, {name: table.drop(columns="seconds") for name, table in tables.items()}


def test_two_workers_on_two_cores_take_little_more_than_half_of_the_time_of_one(accepted: Settings) -> None:
    """At most 0.65 of it, by the clock. The processes have started before."""
    (one, alone), (two, together) = searched(1, accepted), searched(2, accepted)
    print(f"two workers take {two / one:.2f} of the time of one")
    assert len(alone) == len(together) == 6
    for name, trials in alone.items():
        pd.testing.assert_frame_equal(trials, together[name])
    assert two <= MOST * one
