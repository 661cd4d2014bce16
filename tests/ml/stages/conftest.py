"""One small world for all stage tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from world import ANIMAL, World, make_settings

from ml.data.sample import draw_samples
from ml.params import ValidateParams
from ml.results import DagRun
from ml.stages import validate


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "drawings"
    draw_samples(root, per_class=15, others=4)
    return root


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory, drawings: Path) -> Callable[[], World]:
    def make() -> World:
        home = tmp_path_factory.mktemp("home")
        where = make_settings(home, drawings)
        # Artifacts of an MLflow store without a server lie below the working folder.
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            params = ValidateParams()
            scanned = validate.scan(params, where)
            result = validate.run(ANIMAL, scanned, params, where, DagRun("validate_images", "first"))
            validate.publish(result, where)
        return World(where, result)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[[], World]) -> World:
    return make_world()


@pytest.fixture(autouse=True)
def _inside_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.settings.home)
