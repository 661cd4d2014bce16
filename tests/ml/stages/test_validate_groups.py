"""What validation says of labels and groups, and where."""

from pathlib import Path

import pytest
from PIL import Image
from world import make_settings

from ml.params import ValidateParams
from ml.results import DagRun
from ml.stages import validate
from ml.tracking import Tracker

TABLE = '[fox]\npositives = ["fox/*"]\nnegatives = ["*/*"]\n'


@pytest.fixture
def root(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "photos", {"fox": 12, "wolf": 12})


def _validate(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, animals: str = TABLE):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    where = make_settings(home, root)
    file = tmp_path / "animals.toml"
    file.write_text(animals)
    where = where.model_copy(update={"animals": file})
    params = ValidateParams()
    result = validate.run("fox", validate.scan(params, where), params, where, DagRun("validate_images", "first"))
    return result, Tracker(where.mlflow_uri)


def test_the_same_picture_under_both_labels_is_a_warning_with_a_table_and_a_picture(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(root / "fox" / "000.jpg") as photo:
        photo.resize((80, 54)).save(root / "wolf" / "again.jpg", quality=70)
    result, tracker = _validate(root, tmp_path, monkeypatch)
    pairs = tracker.read_table(_stage(tracker, result.run_id), "contradictions")
    assert pairs[["path", "other_path"]].values.tolist() == [["fox/000.jpg", "wolf/again.jpg"]]
    assert "contradictions" in tracker.pictures(_stage(tracker, result.run_id))
    reason = tracker.client.get_run(result.run_id).data.tags["menagerie.reason"]
    assert "filed both as fox and as another, 1 times: 'fox/000.jpg' and 'wolf/again.jpg'" in reason


def test_sites_of_a_group_are_never_cut(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, photo in enumerate(sorted(root.rglob("*.jpg"))):
        site = photo.parent / f"site{number % 6}"
        site.mkdir(exist_ok=True)
        photo.rename(site / photo.name)
    result, tracker = _validate(root, tmp_path, monkeypatch, TABLE + 'group = "*/{site}/*"\n')
    assert result.metrics["n_groups"] == 6
    made = tracker.read_table(_stage(tracker, result.run_id), "manifest")
    assert made.groupby("scene").fold.nunique().tolist() == [1] * 6
    assert made[made.scene == "site site0"]["class"].nunique() == 2


def _stage(tracker: Tracker, parent: str) -> str:
    experiment = tracker.client.get_run(parent).info.experiment_id
    (stage,) = tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return str(stage.info.run_id)
