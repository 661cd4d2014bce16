"""What benchmarks measure on."""

import os
from pathlib import Path

import pytest
from world import make_settings

from ml.data.sample import draw_samples
from ml.params import ValidateParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import validate


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The folder that PHOTOS names, of real photos, or one of drawings."""
    folder = Path(os.environ.get("PHOTOS") or tmp_path / "drawings").absolute()
    if not folder.exists():
        draw_samples(folder, per_class=150, others=30)
    return folder


@pytest.fixture
def accepted(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a home whose foxes are validated."""
    monkeypatch.chdir(tmp_path)
    settings, params = make_settings(tmp_path / "home", photos), ValidateParams()
    result = validate.run("fox", validate.scan(params, settings), params, settings, DagRun("validate_images", "bench"))
    validate.publish(result, settings)
    return settings
