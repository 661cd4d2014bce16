"""What becomes of a trained generator: scored, tried in the classifier's training, published, reported."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from world import World

from ml.analysis.generative import KernelDistance
from ml.results import StageResult
from ml.stages import crops, drawn, gan, helps, publish, report, score, transfer
from ml.stages.job import GanJob
from ml.tracking import CHAMPION


@dataclass(frozen=True)
class Trained:
    world: World
    job: GanJob
    result: StageResult


@pytest.fixture(scope="module")
def trained(make_world: Callable[[], World]) -> Trained:
    world = make_world()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        return train(world, "first")


def train(world: World, run_id: str, **params: object) -> Trained:
    job = world.gan_job(run_id, recipe="dcgan", steps=2, **params)
    crops.run(job)
    return Trained(world, job, gan.run(job, every=2))


@pytest.fixture(autouse=True)
def _inside_its_home(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.world.settings.home)


@pytest.fixture(scope="module")
def scored(trained: Trained) -> StageResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.world.settings.home)
        return score.run(trained.job, trained.result)


def test_the_same_seed_draws_the_same_pictures_and_fewer_are_the_first(trained: Trained) -> None:
    model = drawn.generator(trained.job, trained.result)
    pictures = drawn.pictures(model, 6, 1)
    assert pictures.shape == (6, 32, 32, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(drawn.pictures(model, 3, 1), pictures[:3])
    assert (drawn.pictures(model, 6, 2) != pictures).any()


def test_without_a_champion_the_judge_alone_says_what_is_drawn(trained: Trained, scored: StageResult) -> None:
    assert "there is no champion that could judge yet: run retrain_elephant" in scored.summary
    assert "hit_rate" not in scored.metrics
    rates = [scored.metrics[f"hit_rate{kind}_judge"] for kind in ("", "_real", "_others")]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[1] > rates[2]  # the judge knows drawings of the animal from those of others
    assert scored.metrics["kid_low"] < scored.metrics["kid"] < scored.metrics["kid_high"]
    assert scored.metrics["kid"] > scored.metrics["kid_reference"]  # two steps draw nothing
    assert {"kid_discriminator", "precision", "recall", "diversity", "copy_rate"} <= scored.metrics.keys()


def test_ten_pictures_are_kept_with_their_probabilities(trained: Trained, scored: StageResult) -> None:
    client = trained.job.tracker.client
    assert len(client.list_artifacts(scored.run_id, "pictures")) == 10
    table = trained.job.tracker.read_table(scored.run_id, "pictures")
    assert table.picture.tolist() == [f"picture_{number:02d}.png" for number in range(1, 11)]
    assert table.judge.between(0, 1).all()
    assert trained.job.tracker.pictures(scored.run_id).keys() == {"ten_pictures", "best_and_worst"}


@pytest.fixture(scope="module")
def _champion(trained: Trained) -> None:
    """Make a champion. Tests before the first that asks for it have none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.world.settings.home)
        retraining = trained.world.job("champion", backbones=["EfficientNetLite0"])
        choices = {
            "backbone": "EfficientNetLite0",
            "canvas": [256, 256],
            "padding": [127] * 3,
            "negatives": "all",
            "seed": 0,
        }
        with retraining.tracker.stage(retraining.animal, retraining.parent, "promote", "key") as run:
            model = transfer.final_model(retraining, choices)
            tags = {"padding": "[127, 127, 127]", "complexity": "1", "dataset": retraining.digest}
            tags["dag_run"] = retraining.parent
            retraining.tracker.set_alias(run.register(model, retraining.classifier_name, tags, ""), CHAMPION)


@pytest.mark.usefixtures("_champion")
def test_the_champion_judges_too_and_a_new_champion_judges_again(trained: Trained, scored: StageResult) -> None:
    job = trained.job
    again = score.run(job, trained.result)
    assert not again.reused
    assert again.metrics["hit_rate_real"] > 0.5 > again.metrics["hit_rate_others"]
    assert again.metrics["kid"] == scored.metrics["kid"]
    assert score.run(job, trained.result).reused
    assert set(job.tracker.read_table(again.run_id, "pictures")) == {"picture", "judge", "champion"}


@pytest.mark.usefixtures("_champion")
def test_without_a_table_crops_are_cut_where_the_champion_is_sure(trained: Trained) -> None:
    job = trained.world.gan_job("no table")
    with trained.world.boxes([]):
        result = crops.run(job)
    assert crops.BY_CHAMPION in result.summary
    found = crops.of(job)
    kept = len(found.training) + len(found.held_out)
    assert kept == result.metrics["n_crops"] >= job.dataset.training.label.sum() / 2


def test_whether_it_helps_is_said_either_way(trained: Trained) -> None:
    result = helps.run(trained.job, trained.result)
    low, high = result.metrics["helps_difference_low"], result.metrics["helps_difference_high"]
    assert low <= result.metrics["helps_difference"] <= high
    assert "of the one fold that the generator has not seen" in result.summary
    assert trained.job.tracker.read_table(result.run_id, "helps").pictures.tolist() == [12, 60]


def test_the_published_model_draws_with_no_code_of_ours(trained: Trained) -> None:
    import mlflow

    job = trained.job
    result = publish.run(job, trained.result)
    champion = job.tracker.champion(job.gan_name)
    assert champion
    assert result.metrics["promoted"] == 1.0
    assert champion.tags["dag_run"] == job.parent
    served = mlflow.pyfunc.load_model(champion.uri)
    assert [str(spec.type) for spec in served.metadata.signature.inputs] == ["float32"]
    assert [str(spec.type) for spec in served.metadata.signature.outputs] == ["uint8"]
    pictures = served.predict(np.zeros((2, 32), np.float32))
    assert pictures.shape == (2, 32, 32, 3)
    assert pictures.dtype == np.uint8
    once_more = publish.run(job, trained.result)
    assert "already" in once_more.summary
    assert job.tracker.champion(job.gan_name) == champion


@pytest.mark.parametrize(("low", "promoted"), [(0.1, False), (-0.1, True)])
def test_only_one_that_draws_clearly_worse_stays_challenger(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, low: float, promoted: bool
) -> None:
    publish.run(trained.job, trained.result)
    challenger = train(trained.world, f"challenger {low}", seed=1 + promoted)
    job = challenger.job
    before = job.tracker.champion(job.gan_name)
    assert before
    monkeypatch.setattr(publish, "_change", lambda *_: KernelDistance(0.2, low, 0.3))
    result = publish.run(job, challenger.result)
    after = job.tracker.champion(job.gan_name)
    assert after
    assert result.metrics["promoted"] == promoted
    assert (after != before) == promoted
    assert ("stays challenger" in result.summary) != promoted


def test_the_distance_to_a_champion_of_another_size_is_measured(trained: Trained) -> None:
    latents = keras.Input((32,))
    flat = keras.layers.Rescaling(0.0, offset=128.0)(keras.layers.Dense(64 * 64 * 3)(latents))
    grey = keras.Model(latents, keras.ops.cast(keras.layers.Reshape((64, 64, 3))(flat), "uint8"))
    model = drawn.generator(trained.job, trained.result)
    assert publish._change(trained.job, model, model).value == pytest.approx(0)
    assert publish._change(trained.job, model, grey).value != 0


def test_the_report_shows_the_pictures_and_says_how_hit_rates_are_fooled(trained: Trained, scored: StageResult) -> None:
    results = [crops.run(trained.job), trained.result, scored]
    report.run(trained.job, results)
    run = trained.job.tracker.client.get_run(trained.job.parent)
    assert run.info.status == "FAILED"  # two stages are missing
    page = trained.job.tracker.client.download_artifacts(trained.job.parent, "report.html")
    text = Path(page).read_text(encoding="utf-8")
    assert "Not finished: helps, publish" in text
    assert "colour and texture" in text
    assert "held-out photos" in text
    assert len(re.findall(r'src="data:image/webp;base64,[^"]', text)) >= 4
    assert run.data.metrics["kid"] == scored.metrics["kid"]
