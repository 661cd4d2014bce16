"""From photos to a champion that predicts, through the real scheduler and the real MLflow server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from installation import MENAGERIE, install, menagerie

from ml import environment as stack_environment
from ml import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PREDICT = """
import sys
import keras, mlflow, numpy as np
from PIL import Image, ImageOps
mlflow.set_tracking_uri(sys.argv[1])
file = mlflow.artifacts.download_artifacts("models:/elephant-classifier@champion/data/model.keras")
model = keras.saving.load_model(file)
_, height, width, _ = model.input_shape
def fit(path):
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return np.asarray(ImageOps.pad(photo, (width, height), Image.Resampling.BICUBIC, color=(127, 127, 127)))
assert "ml" not in sys.modules
print(*model.predict(np.stack([fit(path) for path in sys.argv[2:]]))[:, 0])
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    environment = install(tmp_path_factory.mktemp("home"), "elephant")
    yield environment
    subprocess.run([MENAGERIE, "down"], env=environment, check=False)


def test_demo_ends_with_a_champion_that_predicts_in_a_fresh_process(environment: dict[str, str]) -> None:
    home = Path(environment["MENAGERIE_HOME"])
    said = menagerie(environment, "demo", "--photos", environment["MENAGERIE_PHOTOS"])
    assert "elephant" in said
    assert "version 1" in said
    left = [p.pid for p in psutil.process_iter() if str(home) in " ".join(_command(p))]
    assert not left

    said = menagerie(environment, "up")
    chosen = settings.read(environment)
    assert chosen.airflow_url in said
    photos = [home / "photos" / "elephant" / "elephant_000.jpg", home / "photos" / "zebra" / "zebra_000.jpg"]
    answer = subprocess.run(
        [sys.executable, "-c", PREDICT, chosen.mlflow_uri, *map(str, photos)],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=stack_environment.environment(chosen),
    )
    elephant, zebra = map(float, answer.stdout.splitlines()[-1].split())
    assert elephant > 0.5 > zebra

    with httpx.Client(base_url=chosen.airflow_url, timeout=30) as http:
        login = {"username": stack_environment.USER, "password": stack_environment.password(chosen)}
        token = http.post("/auth/token", json=login).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        refused = http.post(
            "/api/v2/dags/retrain_elephant/dagRuns", json={"logical_date": None, "conf": {"baseline_epochs": 0}}
        )
        assert refused.status_code == 400
        assert "less than the minimum of 1" in refused.text
        runs = http.get("/api/v2/dags/retrain_elephant/dagRuns").json()["dag_runs"]
    assert [(run["run_type"], run["state"]) for run in runs] == [("asset_triggered", "success")]

    # In a stack that runs, with nothing new to do, a demo is soon over, and the stack stays.
    assert "version 1" in menagerie(environment, "demo", "--running")
    assert httpx.get(f"{chosen.airflow_url}/api/v2/monitor/health").is_success

    assert "down" in menagerie(environment, "down")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
