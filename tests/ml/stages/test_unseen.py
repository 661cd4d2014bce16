"""Animals that no folder holds: each class of others is judged by heads that never saw it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from world import ANIMAL, World, make_settings

from ml.analysis import selection
from ml.analysis.classification import THRESHOLD
from ml.models import head as heads
from ml.models.average import average_probabilities
from ml.params import ValidateParams
from ml.results import DagRun, StageResult
from ml.stages import average, compare, report, transfer, validate
from ml.stages.answers import UNSEEN, answers_of
from ml.stages.evaluation import OPERATING_POINTS, OUT_OF_FOLD, SENSITIVITIES, UNSEEN_CLASSES, UNSEEN_WORST
from ml.stages.features import features
from ml.stages.job import Job
from ml.tracking.keys import TAG

LITE = "EfficientNetLite0"
METRICS = ("unseen_auc", "unseen_false_alarms", "unseen_false_alarms_low", "unseen_false_alarms_high")


@pytest.fixture(scope="module")
def job(world: World) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return world.job("unseen")


@pytest.fixture(scope="module")
def judged(job: Job) -> StageResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(job.settings.home)
        return transfer.run(job, LITE)


def without_class(problem: heads.Problem, name: str) -> heads.Problem:
    """The problem with the rows of the class deleted, all else computed again."""
    classes = np.asarray(problem.names)[problem.index]
    rest = classes != name
    names, index = np.unique(classes[rest], return_inverse=True)
    rows, groups, weights = problem.rows[rest], problem.groups[rest], problem.row_weights[rest]
    left = replace(problem, names=tuple(names), index=index, positive=names == ANIMAL)
    return replace(left, groups=groups, rows=rows, row_weights=weights)


def test_the_column_is_what_a_refit_without_class_and_fold_says(job: Job, judged: StageResult) -> None:
    table = job.tracker.read_table(judged.run_id, OUT_OF_FOLD)
    assert table[UNSEEN].isna().equals(table.label == 1)
    rows = job.dataset.training
    given = features(job.dataset, rows.index, LITE, job.settings)
    folds, classes, labels = rows.fold.to_numpy(), rows["class"].to_numpy(str), rows.label.to_numpy(bool)
    groups = pd.factorize(rows.group)[0]
    same_scale, plain = (np.full(len(rows), np.nan) for _ in range(2))
    for fold in np.unique(folds):
        inside = folds != fold
        problem = heads.Problem.of(given[inside], classes[inside], labels[inside], groups[inside])
        penalty = problem.best().penalty
        for name in np.unique(classes[~labels]):
            asked, learnt = (folds == fold) & (classes == name), inside & (classes != name)
            part = without_class(problem, name)
            same_scale[asked] = part.head(part.fit(penalty), part.binary()).predict(given[asked])
            refit = heads.fit_head(given[learnt], classes[learnt], labels[learnt], groups[learnt])
            plain[asked] = refit.predict(given[asked])
    said = table[UNSEEN][~labels].to_numpy()
    np.testing.assert_allclose(said, same_scale[~labels], atol=0.01)
    assert ((said >= THRESHOLD) == (plain[~labels] >= THRESHOLD)).mean() > 0.9


def test_metrics_table_tag_and_report_say_it(job: Job, judged: StageResult) -> None:
    run = job.tracker.client.get_run(judged.run_id)
    assert set(METRICS) <= run.data.metrics.keys()
    by_class = job.tracker.read_table(judged.run_id, UNSEEN_CLASSES)
    assert set(by_class["class"]) == set(job.dataset.training.query("label == 0")["class"])
    assert by_class.false_alarms.is_monotonic_decreasing
    worst = run.data.tags[TAG + UNSEEN_WORST]
    assert [part.rsplit(" ", 1)[0] for part in worst.split(", ")] == by_class["class"].head(3).tolist()

    compared = compare.run(job, [judged])
    assert all(compared.metrics[name] == judged.metrics[name] for name in METRICS)
    assert f"of a class left out of training are called {ANIMAL}, most often {worst}" in compared.summary
    assert "unseen classes counting for half of the others' photos" in compared.summary
    report.run(job, [judged, compared])
    page = Path(job.tracker.client.download_artifacts(job.parent, "report.html", str(job.settings.home)))
    told = page.read_text(encoding="utf-8")
    assert f"{judged.metrics['unseen_auc']:.4f}</td>" in told
    points = job.tracker.read_table(compared.run_id, OPERATING_POINTS)
    assert points.sensitivity[1:].tolist() >= list(SENSITIVITIES)
    assert points.threshold[0] == THRESHOLD
    assert points.unseen_false_alarms[0] == pytest.approx(judged.metrics["unseen_false_alarms"])
    assert "of 1,000 of animals never seen" in told
    assert compared.metrics["false_alarms_at_95"] == points.false_alarms[3]
    assert compared.metrics["unseen_false_alarms_at_95"] == points.unseen_false_alarms[3]
    assert f"Photos called {ANIMAL} by a model that was trained without their class" in told
    assert all(f"<td>{name}</td>" in told for name in by_class["class"].head(3))


def test_the_average_is_measured_where_all_its_members_are(job: Job, judged: StageResult) -> None:
    other = transfer.run(job, "EfficientNetLite1")
    averaged = average.run(job, [judged, other])
    assert averaged is not None
    assert set(METRICS) <= averaged.metrics.keys()
    said, members = (
        [job.tracker.read_table(one.run_id, OUT_OF_FOLD)[UNSEEN] for one in results]
        for results in ([averaged], [judged, other])
    )
    expected = average_probabilities(members, [0.5**0.5] * 2)
    np.testing.assert_allclose(said[0], expected, atol=1e-6)


def test_what_unseen_classes_cost_counts_in_the_choice(job: Job, judged: StageResult) -> None:
    """Of two candidates that are alike but there, the one that calls unseen animals by their name isn't taken."""
    table = job.tracker.read_table(judged.run_id, OUT_OF_FOLD)
    careless = table.assign(**{UNSEEN: np.where(table.label == 1, np.nan, 0.9)})
    answers = answers_of({"careless": careless, "careful": table})
    assert answers.eligible() == ["careless", "careful"]
    assert (
        selection.choose(answers.credits(answers.eligible()), answers.photos, {"careless": 1, "careful": 9})
        == "careful"
    )


def test_others_of_one_class_are_said_to_be_unmeasured(
    tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    for file in sorted(drawings.rglob("*.jpg")):
        kind = ANIMAL if file.parent.name == ANIMAL else "other"
        (root / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / kind / file.name)
    monkeypatch.chdir(tmp_path)
    where, params = make_settings(tmp_path / "home", root), ValidateParams()
    found = validate.run(ANIMAL, validate.scan(params, where), params, where, DagRun("validate_images", "one class"))
    validate.publish(found, where)
    job = World(where, found).job("one class")
    judged = transfer.run(job, LITE)
    assert (
        "animals that no folder holds is not measured: the photos of other animals are all of one class"
        in judged.summary
    )
    assert not set(METRICS) & judged.metrics.keys()
    assert UNSEEN not in job.tracker.read_table(judged.run_id, OUT_OF_FOLD)
    assert "animals that no folder holds is not measured" in compare.run(job, [judged]).summary
