"""The stages in their order on real, tiny data: what a DAG run does, without Airflow."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from world import ANIMAL, World, make_settings

from ml import crossvalidation
from ml.data import manifest
from ml.data.sample import draw_samples
from ml.errors import DataError, LostError
from ml.models.baseline import build_baseline
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.stages import (
    baseline,
    compare,
    cross,
    decide,
    explain,
    explore,
    features,
    final,
    floor,
    prepare,
    promote,
    report,
    transfer,
    validate,
)
from ml.stages.job import Job
from ml.tracking import Tracker

BACKBONE = "EfficientNetLite0"


@dataclass(frozen=True)
class Run:
    job: Job
    results: dict[str, StageResult]


def stages(job: Job) -> Run:
    results = {"explore": explore.run(job), "floor": floor.run(job)}
    results |= {"baseline": baseline.run(job), "transfer": transfer.run(job, BACKBONE)}
    judged = [results["floor"], results["baseline"], results["transfer"]]
    results["compare"] = compare.run(job, judged)
    results["explain"] = explain.run(job, results["compare"], judged)
    results["decide"] = decide.run(job, results["compare"])
    results["promote"] = promote.run(job, results["compare"], results["decide"])
    results["cross"] = cross.run(job)
    report.run(job, list(results.values()))
    return Run(job, results)


@pytest.fixture(scope="module")
def done(world: World) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return stages(world.job("first"))


def test_every_photo_is_judged_by_a_fold_that_does_not_know_it(done: Run) -> None:
    for name in ("floor", "baseline", "transfer"):
        table = done.job.tracker.read_table(done.results[name].run_id, "out_of_fold")
        assert len(table) == len(done.job.dataset.training)
        assert table.probability.between(0, 1).all()
        assert set(table.fold) == set(range(5))
        assert (table.groupby("group").fold.nunique() == 1).all()


def test_metrics_have_the_names_that_users_compare(done: Run) -> None:
    accuracy = {"cv_accuracy_mean", "cv_accuracy_std", "cv_accuracy_low", "cv_accuracy_high", "cv_roc_auc_mean"}
    everything = {"cv_all_roc_auc", "cv_all_average_precision", "cv_all_balanced_accuracy"}
    expected = accuracy | everything | {"cv_brier", "cv_ece", "cv_ece_by_chance", "train_accuracy_mean", "overfit_gap"}
    for name in ("baseline", "transfer"):
        logged = done.job.tracker.client.get_run(done.results[name].run_id).data.metrics
        assert expected <= logged.keys()
    parent = done.job.tracker.client.get_run(done.job.parent).data.metrics
    assert {"selected_accuracy", "promoted"} <= parent.keys()


def test_a_stage_leaves_its_pictures_and_a_run_a_fold(done: Run) -> None:
    tracker = done.job.tracker
    assert {"confusion_matrix", "roc_curve", "reliability", "mistakes", "learning_curves"} <= tracker.pictures(
        done.results["baseline"].run_id
    ).keys()
    assert "tsne" in tracker.pictures(done.results["explore"].run_id)
    run_id = done.results["baseline"].run_id
    experiment = tracker.client.get_run(run_id).info.experiment_id
    folds = tracker.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert sorted(fold.info.run_name for fold in folds) == [f"fold {number}" for number in range(5)]
    assert all(fold.info.status == "FINISHED" and fold.data.metrics["val_loss"] > 0 for fold in folds)


def test_the_floor_stands_beside_the_candidates_and_is_never_chosen(done: Run) -> None:
    table = done.job.tracker.read_table(done.results["compare"].run_id, "candidates")
    assert table.candidate.tolist() == ["baseline", f"transfer {BACKBONE}", "floor"]
    assert not table.chosen[table.candidate == "floor"].any()
    assert done.results["floor"].candidates == ()


def test_the_first_good_model_becomes_champion_and_predicts_in_a_fresh_process(done: Run, world: World) -> None:
    assert done.results["promote"].metrics["promoted"] == 1, done.results["promote"].summary
    champion = done.job.tracker.champion(f"{ANIMAL}-classifier")
    assert champion is not None
    readme = Path(__file__).parents[3].joinpath("README.md").read_text()
    program = readme.partition("```python\n")[2].partition("```")[0]
    for written, here in (
        ("http://127.0.0.1:5000", world.settings.mlflow_uri),
        ("fox-classifier", champion.name),
        ("photo.jpg", str(next(world.settings.photos.rglob("*.jpg")))),
    ):
        assert written in program
        program = program.replace(written, here)
    program = f"import sys\n{program}\nassert 'ml' not in sys.modules\n"
    said = subprocess.run([sys.executable, "-c", program], check=True, cwd="/", timeout=300, capture_output=True)
    assert 0 <= float(said.stdout.split()[-1].strip(b"[]")) <= 1


def test_the_champion_gives_the_probabilities_that_the_head_gave(done: Run) -> None:
    """The registered network and the features with the head outside it are one model."""
    job = done.job
    champion = job.tracker.champion(job.classifier_name)
    assert champion is not None
    (candidate,) = done.results["compare"].candidates
    again = final.final_model(job, candidate)
    indices = np.arange(6)
    assert np.allclose(
        final.predict(job.tracker.load_model(champion), job.dataset, indices, candidate.settings["padding"]),
        final.predict(again, job.dataset, indices, candidate.settings["padding"]),
        atol=1e-4,
    )


def test_the_report_stands_alone_and_says_the_outcome(done: Run, tmp_path: Path) -> None:
    page = Path(done.job.tracker.client.download_artifacts(done.job.parent, "report.html", str(tmp_path))).read_text()
    assert 'src="http' not in page
    assert page.count("data:image/webp;base64,") >= 8
    assert "Promoted" in page
    assert "Not finished" not in page
    metrics = done.results["baseline"].metrics
    for name in ("cv_ece", "cv_ece_by_chance"):  # two numbers to compare look alike
        assert f"<td>{metrics[name]:.4f}</td>" in page
    assert done.job.tracker.client.get_run(done.job.parent).info.status == "FINISHED"


def test_the_same_work_is_not_done_again(done: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(crossvalidation, "cross_validate", must_not_run)
    again = stages(world.job("second"))
    for name in ("explore", "floor", "baseline", "transfer", "compare", "explain"):
        assert again.results[name].reused
        assert again.results[name].run_id == done.results[name].run_id
    assert again.results["promote"].metrics["promoted"] == 0
    assert "Not promoted" in again.results["promote"].summary
    with pytest.raises(AssertionError, match="trained again"):
        baseline.run(world.job("third", force=True))


def test_the_same_seed_gives_the_same_numbers(done: Run, world: World) -> None:
    again = baseline.run(world.job("fourth", force=True))
    assert again.metrics == done.results["baseline"].metrics
    assert again.run_id != done.results["baseline"].run_id


def test_no_photo_passes_a_backbone_twice(world: World, done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(*args: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(features, "_forward", must_not_run)
    assert not transfer.run(world.job("seeded", seed=3), BACKBONE).reused


def test_a_promotion_that_was_killed_registers_no_second_version(
    make_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    monkeypatch.chdir(world.settings.home)
    job = world.job("killed")
    compared = compare.run(job, [transfer.run(job, BACKBONE)])
    decided = decide.run(job, compared)
    whole = Tracker.set_alias

    def die_before_the_champion_changes(tracker: Tracker, registered: object, alias: str) -> None:
        if alias == "champion":
            raise KeyboardInterrupt
        whole(tracker, registered, alias)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tracker, "set_alias", die_before_the_champion_changes)
        promote.run(job, compared, decided)
    assert job.tracker.champion(job.classifier_name) is None
    assert promote.run(job, compared, decided).metrics["promoted"] == 1
    versions = job.tracker.client.search_model_versions(f"name = '{job.classifier_name}'")
    assert [version.version for version in versions] == [1]
    assert job.tracker.champion(job.classifier_name).version == "1"  # type: ignore[union-attr]
    assert promote.run(job, compared, decided).metrics["promoted"] == 1, "told again, it says the same"
    again = decide.run(job, compared)
    assert again.metrics["proposed"] == 0, "nobody is asked again"
    assert promote.run(job, compared, again).metrics["promoted"] == 1


def test_a_killed_stage_goes_on_at_the_fold_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.job("killed", seed=7)
    whole, seen = crossvalidation._save, []

    def die_in_the_third_fold(file: Path, fold: crossvalidation.Fold) -> None:
        seen.append(file.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        whole(file, fold)

    monkeypatch.setattr(crossvalidation, "_save", die_in_the_third_fold)
    with pytest.raises(KeyboardInterrupt):
        baseline.run(job)
    result = baseline.run(job)
    assert seen == ["fold-0.npz", "fold-1.npz", "fold-2.npz", "fold-2.npz", "fold-3.npz", "fold-4.npz"]
    runs = job.tracker._search(job.tracker._experiment(ANIMAL), {"stage": "baseline"}, parent=job.parent)
    assert [run.info.run_id for run in runs] == [result.run_id]
    assert runs[0].info.status == "FINISHED"


def test_a_run_whose_stages_failed_is_reported_as_failed(world: World, done: Run, tmp_path: Path) -> None:
    job = world.job("broken")
    report.run(job, [done.results["explore"]])
    run = job.tracker.client.get_run(job.parent)
    assert run.info.status == "FAILED"
    assert "baseline" in run.data.tags["menagerie.reason"]
    page = Path(job.tracker.client.download_artifacts(job.parent, "report.html", str(tmp_path))).read_text()
    assert "Not finished: floor, baseline, transfer, compare, decide, explain, promote" in page


def test_nothing_is_promoted_without_candidates(world: World) -> None:
    with pytest.raises(DataError, match="No candidate for elephant"):
        compare.run(world.job("empty"), [])


def test_a_worse_model_never_takes_the_place_of_the_champion(done: Run, world: World) -> None:
    job = world.job("worse")
    before = job.tracker.champion(job.classifier_name)
    worse = compare.run(job, [done.results["baseline"]])
    decided = decide.run(job, worse)
    assert decided.metrics["proposed"] == 0
    assert {"difference", "difference_low", "difference_high"} <= decided.metrics.keys()
    assert "against_champion" in job.tracker.pictures(decided.run_id)
    assert promote.run(job, worse, decided).metrics["promoted"] == 0
    assert job.tracker.champion(job.classifier_name) == before


def test_new_photos_are_judged_by_the_champion_itself(done: Run, world: World, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(world.settings.photos, root)
    draw_samples(tmp_path / "more", per_class=3, others=1, seed=1)
    for file in (tmp_path / "more").rglob("*.jpg"):
        shutil.copy(file, root / file.parent.name / f"new_{file.name}")
    where, params = world.settings.model_copy(update={"photos_root": str(root)}), ValidateParams()
    grown = validate.run(ANIMAL, validate.scan(params, where), params, where, DagRun("validate_images", "grown"))
    job = replace(world.job("grown"), digest=grown.digest)
    table = job.tracker.read_table(transfer.run(job, BACKBONE).run_id, "out_of_fold")
    champion = job.tracker.champion(job.classifier_name)
    assert champion is not None

    both, left_out, new = decide.champion_beside(job, table, champion)
    known = done.job.tracker.read_table(done.results["compare"].run_id, "out_of_fold").set_index("sha256")
    assert len(both) + left_out == len(table) > len(known)
    assert both.sha256[~new].isin(known.index).all()
    assert 0 < new.sum() <= len(table) - len(known)
    old = both[both.sha256.isin(known.index)]
    assert np.allclose(old.champion, known.probability.loc[old.sha256])
    assert both.champion.between(0, 1).all()

    # What it says of them, before anything is trained on them, is its accuracy on new photos.
    decided = decide.run(job, compare.run(job, [transfer.run(job, BACKBONE)]))
    assert decided.metrics["champion_on_new_photos_n"] == new.sum()
    low, high = (decided.metrics[f"champion_on_new_photos_{end}"] for end in ("low", "high"))
    assert low <= decided.metrics["champion_on_new_photos"] <= high
    assert decided.metrics["models_compared"] >= 2
    assert "models have been compared on these photos since" in decided.summary


def test_a_near_duplicate_of_a_photo_that_is_gone_does_not_meet_the_champion(
    done: Run, world: World, tmp_path: Path
) -> None:
    """All photos are saved again, smaller: the champion has seen every one of them."""
    root = tmp_path / "photos"
    shutil.copytree(world.settings.photos, root)
    for file in root.rglob("*.jpg"):
        with Image.open(file) as photo:
            small = photo.resize((photo.width * 9 // 10, photo.height * 9 // 10))
        small.save(file, quality=80)
    where, params = world.settings.model_copy(update={"photos_root": str(root)}), ValidateParams()
    again = validate.run(ANIMAL, validate.scan(params, where), params, where, DagRun("validate_images", "smaller"))
    job = replace(world.job("smaller"), digest=again.digest)
    decided = decide.run(job, compare.run(job, [transfer.run(job, BACKBONE)]))
    assert decided.metrics["proposed"] == 0
    assert "too few photos to tell" in decided.summary
    assert decided.metrics["photos_left_out"] > 0.9 * len(job.dataset.training)


def test_the_best_champion_so_far_is_met_too_and_one_that_is_lost_is_passed_over(done: Run, world: World) -> None:
    job = world.job("anchored")
    champion = job.tracker.champion(job.classifier_name)
    assert champion is not None
    now = job.tracker.read_table(champion.run_id, "out_of_fold")
    assert decide._best_so_far(job, now, champion) is None
    perfect = now.assign(probability=now.label.astype(float), unseen=0.0)
    made = {}
    for name, table in (("earlier", perfect), ("lost", None), ("damaged", perfect.drop(columns="group"))):
        with job.tracker.stage(ANIMAL, job.parent, "promote", name) as stage:
            stage.log({"promoted": 1.0})
            if table is not None:
                stage.table("out_of_fold", table)
            made[name] = stage.register(build_baseline(16), job.classifier_name, {"padding": "null"}, name)
    wrong = now.assign(probability=1 - now.label.astype(float), unseen=1.0)
    best = decide._best_so_far(job, wrong, champion)
    assert best is not None
    assert best.difference == pytest.approx(-1)
    assert best.n == len(now)
    for name in ("lost", "damaged"):
        with pytest.raises(LostError, match=r"can't be compared.*menagerie champion"):
            decide.champion_beside(job, now, made[name])


def test_no_dataset_yet_says_what_to_do(world: World, tmp_path: Path) -> None:
    where = make_settings(tmp_path, world.settings.photos)
    with pytest.raises(DataError, match="Run the DAG validate_images first"):
        prepare.run(ANIMAL, world.job("first").params, where, DagRun("retrain", "r"))


def test_an_unchanged_folder_gives_the_same_dataset(world: World) -> None:
    params = ValidateParams()
    again = validate.run(
        ANIMAL, validate.scan(params, world.settings), params, world.settings, DagRun("validate_images", "again")
    )
    assert again.reused
    assert again.digest == world.validated.digest
    validate.publish(again, world.settings)
    folder = world.settings.datasets / ANIMAL
    assert manifest.accepted(folder) == world.validated.digest
    assert manifest.validation_run(folder) == world.validated.run_id


def test_data_docs_are_with_the_mlflow_run_and_a_retraining_links_to_them(world: World) -> None:
    client = world.job("linked").tracker.client
    run = client.get_run(world.validated.run_id)
    (stage,) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    names = [file.path for file in client.list_artifacts(stage.info.run_id, "data_docs")]
    assert names == ["data_docs/dataset-dataset.html", "data_docs/photos-photos.html"]
    note = client.get_run(world.job("linked").parent).data.tags["mlflow.note.content"]
    assert f"runs/{world.validated.run_id}" in note


def test_bad_photos_stop_validation_and_leave_the_accepted_dataset(world: World, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(world.settings.photos, root)
    shutil.copy(root / ANIMAL / f"{ANIMAL}_000.jpg", root / "lion" / "wrong.jpg")
    where = world.settings.model_copy(update={"photos_root": str(root)})
    params = ValidateParams()
    with pytest.raises(DataError, match=r"elephant_000\.jpg.*lion/wrong\.jpg"):
        validate.run(ANIMAL, validate.scan(params, where), params, where, DagRun("validate_images", "bad"))
    tracker = Tracker(world.settings.mlflow_uri)
    (run,) = tracker._search(tracker._experiment(ANIMAL), {"dag_run_id": "bad"})
    assert run.info.status == "FAILED"
    assert "lion/wrong.jpg" in run.data.tags["menagerie.reason"]
    assert manifest.accepted(world.settings.datasets / ANIMAL) == world.validated.digest
