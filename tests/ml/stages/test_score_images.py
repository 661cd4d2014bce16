"""Scoring on real, tiny data: two champions of different kinds, a folder with broken photos, a kill, and a drift."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from world import ANIMAL, World

from ml import cli
from ml.data import incoming, scores
from ml.data.scores import Unfinished
from ml.errors import DataError, ParameterError, ServiceError
from ml.models.backbones import BACKBONES
from ml.models.baseline import build_baseline
from ml.params import ScoreParams
from ml.results import DagRun, StageResult
from ml.stages import final, score_images, transfer
from ml.stages.jury import YARDSTICK, Jury
from ml.tracking import CHAMPION, RegisteredVersion, Tracker

PADDING = BACKBONES[YARDSTICK].padding


@pytest.fixture(scope="module")
def jury_world(make_world: Callable[[], World]) -> World:
    """The elephant's champion stands on a pretrained network; the tiger's is small, and its photos are gone."""
    world = make_world()
    job = world.job("made")
    choices = {"backbone": YARDSTICK, "canvas": list(BACKBONES[YARDSTICK].canvas), "negatives": "all", "seed": 0}
    keras.utils.set_random_seed(0)
    models = {ANIMAL: (transfer.final_model(job, choices), str(list(PADDING))), "tiger": (build_baseline(24), "null")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        for animal, (model, padding) in models.items():
            with job.tracker.stage(ANIMAL, job.parent, "promote", animal) as stage:
                tags = {"padding": padding, "complexity": "1", "dataset": job.digest, "dag_run": job.parent}
                if animal == ANIMAL:
                    stage.table("out_of_fold", OUT_OF_FOLD)
                job.tracker.set_alias(stage.register(model, f"{animal}-classifier", tags, "…"), CHAMPION)
    return world


OUT_OF_FOLD = pd.DataFrame(
    {
        "label": [1] * 50 + [0] * 50,
        "class": [ANIMAL] * 50 + ["owl", "rhino"] * 25,
        "group": [str(number) for number in range(100)],
        "probability": [0.9] * 48 + [0.3] * 2 + [0.1] * 47 + [0.7] * 3,
        "unseen": [np.nan] * 50 + [0.2, 0.6] * 25,
    }
)
JURIES: dict[str, Jury] = {}
assemble = Jury.assemble


def assembled(champions: dict[str, RegisteredVersion], tracker: Tracker) -> Jury:
    """The same champions are put together once for all tests."""
    key = f"{tracker.uri} {champions}"
    if key not in JURIES:
        JURIES[key] = assemble(champions, tracker)
    return JURIES[key]


@pytest.fixture(autouse=True)
def _inside(jury_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(jury_world.settings.home)
    monkeypatch.setattr(scores, "CHUNK", score_images.BATCH)
    monkeypatch.setattr(Jury, "assemble", assembled)


@pytest.fixture(scope="module")
def folder(jury_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawings, and two files that are no photos."""
    folder = tmp_path_factory.mktemp("new") / "field trip"
    shutil.copytree(jury_world.settings.photos, folder)
    (folder / "a #, 1.jpg").write_bytes(b"")
    (folder / "b.jpg").write_bytes(b"<html>")
    return folder


def score(world: World, folder: Path | str, dag_run: str = "run", **chosen: object) -> StageResult:
    params = ScoreParams.read({"photos": str(folder), **chosen})
    return score_images.run(params, world.settings, DagRun("score_images", dag_run))


def table_of(result: StageResult) -> pd.DataFrame:
    path = result.summary.partition("scores are in ")[2].partition(".csv")[0] + ".csv"
    return pd.read_csv(path, comment="#", keep_default_na=False, na_values={ANIMAL: [""], "tiger": [""]})


@pytest.fixture(scope="module")
def scored(jury_world: World, folder: Path) -> StageResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(jury_world.settings.home)
        patch.setattr(Jury, "assemble", assembled)
        return score(jury_world, folder)


def test_every_champion_says_what_it_says_alone(scored: StageResult, jury_world: World) -> None:
    job, table = jury_world.job("made"), table_of(scored).set_index("path")
    for animal, padding in ((ANIMAL, PADDING), ("tiger", None)):
        champion = job.tracker.champion(f"{animal}-classifier")
        assert champion
        rows = job.dataset.rows
        said = final.predict(job.tracker.load_model(champion), job.dataset, np.arange(len(rows)), padding)
        assert np.allclose(table.loc[rows.path, animal], said, atol=1e-4)
    assert (table.found.str.split("+").map(lambda names: ANIMAL in names) == (table[ANIMAL] >= 0.5)).all()
    assert scored.metrics[f"n_{ANIMAL}"] == (table[ANIMAL] >= 0.5).sum()


def test_it_says_how_many_of_the_found_are_right_and_how_often_the_champion_errs(
    scored: StageResult, jury_world: World
) -> None:
    tracker = jury_world.job("made").tracker
    found = int(scored.metrics[f"n_{ANIMAL}"])
    assert 0 <= scored.metrics[f"right_low_{ANIMAL}"] <= scored.metrics[f"right_{ANIMAL}"]
    assert scored.metrics[f"right_{ANIMAL}"] <= scored.metrics[f"right_high_{ANIMAL}"] <= found
    assert scored.metrics[f"share_{ANIMAL}"] == pytest.approx(
        (table_of(scored).path.str.startswith(ANIMAL)).mean(), abs=0.05
    )
    assert f"of the {found} found are expected to be right" in scored.summary
    assert f"Of 100 photos of an {ANIMAL} the champion finds 96 (" in scored.summary
    assert "of 1,000 photos of the other animals in training it takes 60 (" in scored.summary
    assert "and of 1,000 photos of an animal that training never saw 500 (" in scored.summary
    assert "Of 100 photos of a tiger" not in scored.summary, "its out-of-fold predictions are gone"
    assert tracker.client.get_run(scored.run_id).data.tags["menagerie.found_means"] in scored.summary
    assert tracker.read_table(scored.run_id, f"operating_point_{ANIMAL}").sensitivity.tolist() == [0.96]


def test_with_a_known_prevalence_only_what_is_likely_there_is_found(
    jury_world: World, folder: Path, scored: StageResult, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "rare")
    result = score(jury_world, tmp_path / "rare", "rare", prevalence=0.02)
    table = table_of(result)
    assert (table.found.str.split("+").map(lambda names: ANIMAL in names) == (table[ANIMAL] >= 0.98)).all()
    assert result.metrics[f"n_{ANIMAL}"] == (table[ANIMAL] >= 0.98).sum() < scored.metrics[f"n_{ANIMAL}"]
    np.testing.assert_array_equal(table[ANIMAL], table_of(scored)[ANIMAL])
    assert "2.0% of the photos are expected to show" in result.summary
    with pytest.raises(ParameterError, match="prevalence"):
        score(jury_world, folder, prevalence=1)


def test_broken_photos_are_listed_with_their_reason(scored: StageResult, jury_world: World) -> None:
    table = table_of(scored)
    broken = table[table.problem != ""]
    assert broken.path.tolist() == ["a #, 1.jpg", "b.jpg"]
    assert broken[ANIMAL].isna().all()
    assert "0 bytes" in broken.problem.iloc[0]
    assert "an HTML page" in broken.problem.iloc[1]
    assert scored.metrics["n_unreadable"] == 2
    kept = jury_world.job("made").tracker.read_table(scored.run_id, "unreadable")
    assert kept.path.tolist() == broken.path.tolist()


def test_the_run_in_mlflow_has_everything(scored: StageResult, jury_world: World) -> None:
    tracker = jury_world.job("made").tracker
    run = tracker.client.get_run(scored.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["menagerie.dag_id"] == "score_images"
    assert run.data.tags["menagerie.champions"] == f"tiger 1, {ANIMAL} 1"
    assert {"n_photos", "n_unreadable", f"n_{ANIMAL}", f"drift_distance_{ANIMAL}", "drift"} <= run.data.metrics.keys()
    kept = {file.path for file in tracker.client.list_artifacts(scored.run_id, "scores")}
    assert kept == {"scores/scores.csv", "scores/scores.parquet"}
    assert {"contact_sheet", f"drift_{ANIMAL}"} <= tracker.pictures(scored.run_id).keys()


def test_the_same_photos_are_no_drift_and_others_are(
    scored: StageResult, jury_world: World, tmp_path: Path, fill: Callable[[Path, dict[str, int]], Path]
) -> None:
    assert scored.metrics["drift"] == 0
    assert scored.metrics[f"drift_p_value_{ANIMAL}"] > 0.5
    assert "drift_distance_tiger" not in scored.metrics, "the photos that it was trained with are not here"
    other = score(jury_world, fill(tmp_path / "clouds", {".": 30}), "clouds")
    assert other.metrics["drift"] == 1
    assert "of the photos are unlike any training photo of elephant" in other.summary
    tags = jury_world.job("made").tracker.client.get_run(other.run_id).data.tags
    assert "drifted" in tags["menagerie.drift"]
    assert "not measured for tiger: " in tags["menagerie.drift"]


def test_what_is_not_measured_is_not_none(
    jury_world: World, tmp_path: Path, fill: Callable[[Path, dict[str, int]], Path]
) -> None:
    """Of a few photos nobody knows whether they have drifted: that isn't "none", nor 0."""
    few = score(jury_world, fill(tmp_path / "few", {".": 9}), "few")
    assert "drift" not in few.metrics
    tag = jury_world.job("made").tracker.client.get_run(few.run_id).data.tags["menagerie.drift"]
    assert tag.startswith("not measured for ")
    assert f"{ANIMAL}: 9 new photos, near-duplicates counted once, are too few; at least 10 are needed" in tag
    assert "Drift was not measured" in few.summary


def test_a_killed_scoring_goes_on_where_it_was(
    scored: StageResult, jury_world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, keep, read, seen = table_of(scored), Unfinished.keep, incoming.read, []

    def die_in_the_second(work: Unfinished, number: int, rows: pd.DataFrame) -> None:
        if number == 1:
            raise KeyboardInterrupt
        keep(work, number, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Unfinished, "keep", die_in_the_second)
        score(jury_world, folder, "killed")
    assert table_of(scored).equals(before), "what was there is whole"

    def counted(root: Path, name: bytes, *rest: Any) -> incoming.Incoming:
        seen.append(name)
        return read(root, name, *rest)

    monkeypatch.setattr(incoming, "read", counted)
    again = score(jury_world, folder, "killed")
    first = set(before.path[: scores.CHUNK])
    shown = {path for path in seen if path.decode() in first}
    assert len(shown) <= 4 * 6, "only those on the contact sheet were read again"
    assert table_of(again).equals(before)
    assert again.metrics[f"drift_distance_{ANIMAL}"] == scored.metrics[f"drift_distance_{ANIMAL}"]
    runs = jury_world.job("made").tracker.client.search_runs(
        [jury_world.job("made").tracker.client.get_run(again.run_id).info.experiment_id],
        "tags.`menagerie.dag_run_id` = 'killed'",
    )
    assert [(run.info.run_id, run.info.status) for run in runs] == [(again.run_id, "FINISHED")]


def test_after_a_kill_new_photos_are_scored_and_those_gone_are_not(
    jury_world: World, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = tmp_path / "trip"
    trip.mkdir()
    photos = sorted(folder.rglob("*.jpg"))[:4]
    for photo in photos[:3]:
        shutil.copy(photo, trip / f"{photo.stem}.jpg")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ml.stages.score_report.conclude", die)
        score(jury_world, trip, "trip")
    gone = next(iter(sorted(trip.iterdir())))
    gone.unlink()
    shutil.copy(photos[3], trip / "new.jpg")
    (trip / "notes.txt").write_text("mine")
    result = score(jury_world, trip, "trip")
    assert table_of(result).path.tolist() == sorted(path.name for path in trip.glob("*.jpg"))
    run = jury_world.job("made").tracker.client.get_run(result.run_id)
    assert run.data.tags["menagerie.passed_over"] == "passed over: 1 .txt files (notes.txt)"


@pytest.mark.usefixtures("own_environment")
def test_from_the_terminal(
    jury_world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MENAGERIE_HOME", str(jury_world.settings.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", jury_world.settings.mlflow_uri)
    assert cli.main(["score", str(folder), "--most", "12"]) == 0
    assert "12 photos" in capsys.readouterr().out
    assert cli.main(["score", str(folder / "nowhere")]) == 1
    assert "Expected a folder of photos" in capsys.readouterr().err
    assert cli.main(["score", str(folder), "--most", "0"]) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert cli.main(["score", str(folder)]) == 1
    assert "Start it (make up)" in capsys.readouterr().err


def test_without_a_folder_some_of_the_installation_s_photos_are_scored(
    jury_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_images, "EXAMPLES", 20)
    assert score(jury_world, "", "examples").metrics["n_photos"] == 20


def test_without_champions_it_says_what_to_do(make_world: Callable[[], World], folder: Path) -> None:
    with pytest.raises(DataError, match=r"Expected a champion of tiger or fox or elephant .* Run validate_images"):
        score(make_world(), folder)


def test_one_folder_is_scored_by_one_process(scored: StageResult, jury_world: World, folder: Path) -> None:
    where = Path(scored.summary.partition("scores are in ")[2].partition("/scores.csv")[0])
    with FileLock(where / "lock"), pytest.raises(ServiceError, match="by another process"):
        score(jury_world, folder, "second")
