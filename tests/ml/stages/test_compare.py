"""What the comparison adds to the candidates' own numbers."""

from dataclasses import replace

import pytest
from world import ANIMAL, World

from ml.analysis.classification import evaluate
from ml.results import StageResult
from ml.stages import average, compare, floor, report, transfer
from ml.stages.job import Job

APART = f"""
[{ANIMAL}]
positives = ["{ANIMAL}/*"]
negatives = ["*/*"]
apart.first = ["{ANIMAL}/{ANIMAL}_00[0-4]*"]
apart.nobody = ["{ANIMAL}/nobody*"]
apart.everybody = ["{ANIMAL}/*"]
"""


@pytest.fixture(scope="module")
def job(world: World) -> Job:
    table = world.settings.home / "apart.toml"
    table.write_text(APART)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return replace(world, settings=world.settings.model_copy(update={"animals": table})).job("compared")


@pytest.fixture(scope="module")
def judged(job: Job) -> list[StageResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(job.settings.home)
        return [floor.run(job), *(transfer.run(job, f"EfficientNetLite{size}") for size in (0, 1))]


def test_a_group_apart_is_left_out_of_the_numbers_once_more(job: Job, judged: list[StageResult]) -> None:
    compared = compare.run(job, judged)
    assert {name for name in job.tracker.tables(compared.run_id) if name.startswith("without")} == {"without_first"}
    without = job.tracker.read_table(compared.run_id, "without_first")
    assert without.photos_left_out.tolist() == [5, 5]
    table = job.tracker.read_table(judged[1].run_id, "out_of_fold")
    kept = table[~table.path.str.match(rf"{ANIMAL}/{ANIMAL}_00[0-4]")]
    assert len(kept) == len(table) - 5
    expected = evaluate(
        kept.label.to_numpy(bool), kept.probability.to_numpy(), kept["class"].to_numpy(str), kept.fold.to_numpy(), 0
    )
    assert without.set_index("candidate").cv_all_roc_auc["transfer EfficientNetLite0"] == pytest.approx(
        expected["cv_all_roc_auc"]
    )
    report.run(job, [*judged, compared])
    page = job.tracker.client.download_artifacts(job.parent, "report.html", str(job.settings.home))
    with open(page, encoding="utf-8") as file:
        told = file.read()
    assert "Without 5 photos of first" in told
    milliseconds = judged[1].metrics["milliseconds_a_photo"]
    assert f"<td>{milliseconds:,.3g}</td>" in told


def test_training_on_as_many_others_stands_beside_training_on_all(job: Job, judged: list[StageResult]) -> None:
    averaged = average.run(job, judged[1:])
    assert averaged is not None
    compared = compare.run(job, [*judged, averaged])
    table = job.tracker.read_table(compared.run_id, "candidates").set_index("candidate")
    assert table.course_accuracy_mean.between(0, 1).all()
    assert table.course_accuracy_mean["floor"] == table.cv_accuracy_mean["floor"]
    draws = job.tracker.read_table(averaged.run_id, "out_of_fold_course")
    assert list(draws) == [f"draw_{draw}" for draw in range(5)]
    assert len(draws) == len(job.dataset.training)


def test_a_candidate_says_what_it_costs(job: Job, judged: list[StageResult]) -> None:
    small, large = judged[1:]
    assert 2 < small.metrics["million_parameters"] < large.metrics["million_parameters"] < 6
    assert small.metrics["milliseconds_a_photo"] > 0
    assert "cost" in job.tracker.pictures(compare.run(job, judged).run_id)
