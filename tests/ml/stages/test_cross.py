"""The champions on each other's photos."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from world import ANIMAL, World

from ml.params import ValidateParams
from ml.results import DagRun
from ml.stages import compare, cross, decide, final, promote, transfer, validate
from ml.stages.job import Job

ANIMALS = f"""
[{ANIMAL}]
positives = ["{ANIMAL}/*"]
negatives = ["*/*"]
[fox]
positives = ["fox/*"]
negatives = ["*/*"]
[tiger]
positives = ["tiger/*"]
negatives = ["[!t]*/*"]
"""


@pytest.fixture(scope="module")
def job(make_world: Callable[[], World]) -> Job:
    """A champion of one animal; accepted photos of it and of foxes, and of tigers, that it doesn't know."""
    world = make_world()
    table = world.settings.home / "animals.toml"
    table.write_text(ANIMALS)
    where = world.settings.model_copy(update={"animals": table})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where.home)
        params = ValidateParams(fewest_photos=2)
        scanned = validate.scan(params, where)
        for animal in ("fox", "tiger"):
            result = validate.run(animal, scanned, params, where, DagRun("validate_images", animal))
            validate.publish(result, where)
        job = replace(world, settings=where).job("crossed")
        compared = compare.run(job, [transfer.run(job, "EfficientNetLite0")])
        promote.run(job, compared, decide.run(job, compared))
        return job


def test_known_photos_count_out_of_fold_and_new_ones_are_judged(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.settings.home)
    result = cross.run(job)
    table = job.tracker.read_table(result.run_id, "cross_animals").set_index(["champion", "photos_of"])
    assert len(table) == 9
    assert table.loc["fox"].n.eq(0).all()
    assert table.loc["fox"].share.isna().all()
    champion = job.tracker.champion(job.classifier_name)
    assert champion is not None
    known = job.tracker.read_table(champion.run_id, "out_of_fold")
    foxes = known[known["class"] == "fox"]
    assert table.loc[(ANIMAL, "fox"), "share"] == pytest.approx((foxes.probability >= 0.5).mean())
    assert table.loc[(ANIMAL, ANIMAL), "share"] > 0.5
    assert result.metrics.keys() == {f"taken_{name}_for_{ANIMAL}" for name in ("fox", "tiger")}
    assert job.tracker.pictures(result.run_id).keys() == {"cross_animals"}
    assert cross.run(job).reused


def test_photos_that_the_champion_does_not_know_are_judged_by_its_model(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job.settings.home)
    champion = job.tracker.champion(job.classifier_name)
    assert champion is not None
    tigers = job.dataset_of("tiger")
    known = job.tracker.read_table(champion.run_id, "out_of_fold")
    unknown = known[known["class"] != "tiger"]
    said = cross._says(job, champion, unknown, tigers)
    mine = np.flatnonzero(tigers.rows.label == 1)
    expected = final.predict(job.tracker.load_model(champion), tigers, mine, [127, 127, 127])
    np.testing.assert_allclose(said, expected, atol=1e-5)
