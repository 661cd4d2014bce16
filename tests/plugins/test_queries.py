import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from menagerie import queries
from menagerie.store import PNG, Mlflow
from menagerie.views import AnimalView, Work
from world import ANIMAL

from ml import progress
from ml.data.listing import PassedOver
from ml.errors import DataError, ServiceError
from ml.params import ValidateParams
from ml.progress import Progress
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages import validate
from ml.stages.job import Job

ANIMALS = ["fox", ANIMAL]
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
Results = dict[str, StageResult]


@pytest.fixture(scope="module")
def mlflow(served: Settings) -> Mlflow:
    return Mlflow(served.mlflow_uri)


def view(mlflow: Mlflow) -> AnimalView:
    return queries.overview(mlflow, ANIMALS).animals[1]


def test_the_champion_has_the_numbers_of_its_promotion(mlflow: Mlflow, job: Job, results: Results) -> None:
    champion, promotion = view(mlflow).champion, results["promote"]
    assert champion is not None
    assert champion.version == "1"
    assert champion.tags["candidate"] == results["compare"].candidates[0].name
    assert champion.run is not None
    assert champion.run.id == promotion.run_id
    assert champion.accuracy is not None
    numbers = (champion.accuracy.mean, champion.accuracy.low, champion.accuracy.high)
    assert numbers == tuple(promotion.metrics[f"cv_accuracy_{name}"] for name in ("mean", "low", "high"))


def test_what_else_is_said_of_an_animal(mlflow: Mlflow, job: Job, validated: StageResult, results: Results) -> None:
    seen = view(mlflow)
    assert [run.id for run in seen.history] == [job.parent]
    assert seen.decision == job.tracker.client.get_run(results["promote"].run_id).data.tags["menagerie.decision"]
    assert seen.photos is not None
    assert seen.photos.run.id == validated.run_id
    assert seen.photos.counts == {name: int(value) for name, value in validated.metrics.items()}


def test_the_pictures_are_those_of_the_stages_and_of_the_winner(mlflow: Mlflow, job: Job, results: Results) -> None:
    winner = results["compare"].candidates[0].name
    runs = {"tsne": "explore", "mistakes": winner.split()[0], "candidates": "compare"}
    pictures = {picture.name: picture for picture in view(mlflow).pictures}
    assert {name: pictures[name].run for name in runs} == {name: results[stage].run_id for name, stage in runs.items()}
    for name, picture in pictures.items():
        assert mlflow.picture(picture.run, name, picture.at) == job.tracker.pictures(picture.run)[name]


def test_every_picture_is_drawn_by_its_stage() -> None:
    for stage, names in (queries.PICTURES | queries.DRAWN).items():
        module = importlib.util.find_spec(f"ml.stages.{'evaluation' if stage == 'winner' else stage}")
        assert module is not None
        assert module.origin is not None
        source = Path(module.origin).read_text()
        for name in names:
            assert f'.figure("{name}"' in source or f'"{name}"' in source


def test_a_retraining_that_waits_for_a_person_says_so_until_it_goes_on(mlflow: Mlflow, job: Job) -> None:
    tracker, said = job.tracker, []
    params = {"require_approval": True}
    parent = tracker.open_run(ANIMAL, DagRun(f"retrain_{ANIMAL}", "manual__waits"), job.digest, params)
    said.append(queries.running(mlflow, ANIMALS)[0].waits)
    with tracker.stage(ANIMAL, parent, "decide", "waits") as decided:
        decided.log({"proposed": 1.0})
    tracker.link(parent, StageResult("decide", ANIMAL, job.digest, decided.id))
    said.append(queries.running(mlflow, ANIMALS)[0].waits)
    with tracker.stage(ANIMAL, parent, "promote", "waits"):
        said.append(queries.running(mlflow, ANIMALS)[0].waits)
    tracker.close_run(parent, True)
    tracker.client.delete_run(parent)
    assert said == [False, True, False]


def await_progress(mlflow: Mlflow) -> Work:
    """Return the only work, when it tells how far it is."""
    for _ in range(100):
        (work,) = queries.running(mlflow, ANIMALS)
        if [told for _, told in work.open if told and "epoch" in told.text]:
            break
        time.sleep(0.1)
    return work


def test_an_animal_without_runs_is_there_and_empty(mlflow: Mlflow, results: Results) -> None:
    assert queries.overview(mlflow, ANIMALS).animals[0] == AnimalView("fox")


def test_what_runs_is_named_with_its_open_stage(mlflow: Mlflow, job: Job, results: Results) -> None:
    assert queries.running(mlflow, ANIMALS) == []
    tracker = job.tracker
    parent = tracker.open_run(ANIMAL, DagRun(f"retrain_{ANIMAL}", "manual__running"), job.digest, {})
    tracker.link(parent, results["explore"])
    with tracker.stage(ANIMAL, parent, "tune", "running"), progress.part("trial", 3, 4):
        progress.tell("epoch", 1, 2, loss=0.5)
        work = await_progress(mlflow)
    tracker.close_run(parent, True)
    tracker.client.delete_run(parent)
    assert work.animal == ANIMAL
    assert work.run.id == parent
    ((stage, told),) = work.open
    assert stage.tag("stage") == "tune"
    assert told is not None
    assert told.text == "trial 3 of 4, epoch 1 of 2: loss 0.5"
    assert told.share == 0.625
    assert work.run.stages == {"explore": results["explore"].run_id}


def test_photos_accepted_while_the_retraining_was_paused_are_shown_as_untrained(mlflow: Mlflow, job: Job) -> None:
    tracker, later = job.tracker, "0123456789abcdef"
    assert not view(mlflow).is_untrained
    accepted = tracker.open_run(ANIMAL, DagRun("validate_images", "manual__new"), later, {})
    with tracker.stage(ANIMAL, accepted, "validate", "manual__new"):
        pass
    tracker.close_run(accepted, True)
    assert view(mlflow).is_untrained
    started = tracker.open_run(ANIMAL, DagRun(f"retrain_{ANIMAL}", "manual__new"), later, {})
    assert not view(mlflow).is_untrained
    for run in (accepted, started):
        tracker.client.delete_run(run)


def test_a_failure_is_told_in_the_words_of_its_stage_until_it_is_mended(mlflow: Mlflow, job: Job) -> None:
    tracker, dag_run = job.tracker, DagRun(f"retrain_{ANIMAL}", "manual__failed")
    parent = tracker.open_run(ANIMAL, dag_run, job.digest, {})
    with pytest.raises(MemoryError), tracker.stage(ANIMAL, parent, "tune", "failed"):
        raise MemoryError("16 GB")
    tracker.close_run(parent, False, "missing: tune")
    (failure,) = view(mlflow).failures
    assert failure.reasons == ["tune: MemoryError: 16 GB"]
    assert not failure.mended
    later = tracker.open_run(ANIMAL, DagRun(f"retrain_{ANIMAL}", "manual__later"), job.digest, {})
    tracker.close_run(later, True)
    (failure,) = view(mlflow).failures
    assert failure.run.id == parent
    assert failure.mended
    for run in (parent, later):
        tracker.client.delete_run(run)


def test_a_scoring_tells_of_itself_while_it_runs_and_when_it_has_ended(mlflow: Mlflow, job: Job) -> None:
    tracker, dag_run = job.tracker, DagRun("score_images", "manual__scores")
    assert queries.overview(mlflow, ANIMALS).scoring is None
    parent = tracker.open_run(queries.SCORES, dag_run, "photos", {})
    tracker.tag(parent, "progress", Progress("photo 3 of 4", 0.75, 1.0, time.time()).to_json())
    (work,) = queries.running(mlflow, ANIMALS)
    assert work.animal == ""
    assert [told and told.text for _, told in work.open] == ["photo 3 of 4"]
    tracker.log_metrics(parent, {"n_photos": 4.0, f"n_{ANIMAL}": 2.0, "drift": 1.0})
    tracker.tag(parent, "drift", "they are all at night")
    tracker.close_run(parent, True)
    scoring = queries.overview(mlflow, ANIMALS).scoring
    assert scoring is not None
    assert scoring.run.status == "FINISHED"
    assert scoring.found == {ANIMAL: 2}
    assert scoring.drift == "they are all at night"
    tracker.client.delete_run(parent)


def test_reading_the_photos_tells_how_far_it_is_and_what_it_found(
    mlflow: Mlflow, served: Settings, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, seen = validate.scanning.scan, []

    def watched(root: Path, cache: Path, heard: Callable[[int, int], None], passed: PassedOver) -> pd.DataFrame:
        table = scan(root, cache, heard, passed)
        heard(1, 2)
        for _ in range(100):
            (work,) = queries.running(mlflow, ANIMALS)
            if any(told for _, told in work.open):
                break
            time.sleep(0.1)
        seen.append(work)
        return table

    monkeypatch.setattr(validate.scanning, "scan", watched)
    validate.scan(ValidateParams(), served, DagRun("validate_images", "manual__read"))
    (work,) = seen
    assert work.animal == ""
    ((_, told),) = work.open
    assert told
    assert re.fullmatch(r"photo [\d,]+ of [\d,]+", told.text)
    found = queries.overview(mlflow, ANIMALS).scan
    assert found
    assert found.status == "FINISHED"
    assert found.metrics == {"n_photos": len(list(served.photos.rglob("*.jpg"))), "n_unreadable": 0, "n_passed_over": 0}
    assert found.tag("folder") == str(served.photos)
    with pytest.raises(DataError):
        validate.scan(ValidateParams(photos="/nowhere"), served, DagRun("validate_images", "manual__lost"))
    failed = queries.overview(mlflow, ANIMALS).scan
    assert failed
    assert failed.status == "FAILED"
    assert "/nowhere" in failed.tag("reason")
    for run in (found, failed):
        job.tracker.client.delete_run(run.id)


def test_the_gallery_shows_each_gan_once_the_newest_with_all_its_pictures(mlflow: Mlflow, job: Job) -> None:
    tracker, parents = job.tracker, []
    for number in range(3):
        parent = tracker.open_run(ANIMAL, DagRun(f"gan_{ANIMAL}", f"manual__gan{number}"), job.digest, {})
        parents.append(parent)
        if number < 2:
            with tracker.stage(ANIMAL, parent, "gan", f"gan{number}") as trained:
                for name in queries.DRAWN["gan"]:
                    trained.figure(name, Figure())
                trained.log({"kid": 0.3 - number / 10})
        tracker.link(parent, StageResult("gan", ANIMAL, job.digest, trained.id))
        tracker.close_run(parent, True)
    generations = view(mlflow).generations
    for parent in parents:
        tracker.client.delete_run(parent)
    assert [generation.run.id for generation in generations] == [parents[2], parents[0]]
    assert [generation.trained.metrics["kid"] for generation in generations] == pytest.approx([0.2, 0.3])
    assert [[each.name for each in generation.pictures] for generation in generations] == [
        ["samples", "samples_over_time"],
        ["samples"],
    ]
    assert mlflow.picture(generations[1].trained.id, "samples", 0).startswith(PNG)


def test_a_run_of_another_experiment_is_not_ours(mlflow: Mlflow, job: Job, results: Results) -> None:
    foreign = job.tracker.open_run("secret", DagRun("retrain_secret", "manual__1"), "digest", {})
    assert mlflow.owns(job.parent, ANIMALS)
    assert not mlflow.owns(foreign, ANIMALS)
    assert not mlflow.owns("0" * 32, ANIMALS)


def test_a_picture_that_is_none_is_not_passed_on(mlflow: Mlflow, job: Job) -> None:
    with job.tracker.stage(ANIMAL, job.parent, "forged", "forged") as run:
        run.text("plots/tsne.png", "<script>alert(1)</script>")
    with pytest.raises(LookupError):
        mlflow.picture(run.id, "tsne", 0)
    with pytest.raises(LookupError):
        mlflow.picture(run.id, "missing", 0)
    job.tracker.client.delete_run(run.id)


def test_a_server_that_takes_too_long_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ServiceError, match=uri):
            queries.overview(Mlflow(uri, timeout=0.3), ANIMALS)
    assert time.monotonic() - started < 2


def test_the_api_server_is_spared_what_is_heavy() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from menagerie import api, queries
print(*[name for name in ("mlflow", "tensorflow", "keras", "sklearn", "pandas") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.split("\n")[-2] == ""


def test_the_other_programs_of_airflow_load_nothing_of_the_page() -> None:
    """They load every plugin too; what belongs to the page alone is made when the API server asks for it."""
    program = """
import sys
from airflow import plugins_manager
print(*[plugin.name for plugin in plugins_manager._get_plugins()[0]], *plugins_manager._get_plugins()[1])
ours = ("api", "chart", "links", "queries", "store", "tasks", "views", "menagerie.store")
print(*[name for name in ours if name in sys.modules])
"""
    environment = os.environ | {"AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS)}
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    *_, plugins, modules, _ = answer.stdout.split("\n")
    assert plugins == "menagerie"
    assert modules == ""
