"""A store of MLflow for each test, from a copy of an empty one: to make its tables takes seconds."""

import shutil
from pathlib import Path

import pytest

from ml.tracking import Tracker


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        Tracker(f"sqlite:///{file}").client.search_experiments()
    return file


@pytest.fixture
def tracker(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path)
    return Tracker(f"sqlite:///{tmp_path}/mlflow.db")
