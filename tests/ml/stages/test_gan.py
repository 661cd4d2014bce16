"""The GAN's training: what it leaves, and that it survives being killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from installation import wait
from PIL import Image, ImageSequence
from world import World

from ml.data.files import replacing
from ml.errors import DataError
from ml.models import gan as networks
from ml.models import imle
from ml.models.applications import application
from ml.models.dcgan import DCGAN
from ml.results import StageResult
from ml.stages import crops, gan, gan_training
from ml.stages.gan_training import CHECKPOINT, SAMPLES, Budget, Judge, chosen, train
from ml.stages.job import GanJob

CROPS = np.random.default_rng(0).integers(0, 256, (6, 38, 38, 3), np.uint8)
SCRIPT = """
import sys
from pathlib import Path
from ml.models.dcgan import DCGAN
from ml.stages import gan_training
from test_gan import CROPS, judge

gan_training.JUDGED = 8
budget = gan_training.Budget(steps=100_000)
gan_training.train(DCGAN(CROPS, 32, seed=0, width=4), judge(), Path(sys.argv[1]), budget, every=3)
"""


def small(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return application("MobileNet025", pretrained=False)


def judge() -> Judge:
    gan_training.build_backbone = small
    return Judge(CROPS[:4, :32, :32])


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few pictures, judged by a network with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_training, "build_backbone", small)
        patch.setattr(gan_training, "JUDGED", 24)
        patch.setattr(imle, "CANDIDATES", 32)
        patch.setattr(imle, "RAMP", (2, 3))
        yield


@pytest.fixture(scope="module")
def trained(world: World) -> tuple[GanJob, StageResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.home)
        job = world.gan_job("trained")
        crops.run(job)
        return job, gan.run(job, every=2)


def test_the_best_generator_is_kept_with_the_run(trained: tuple[GanJob, StageResult], tmp_path: Path) -> None:
    job, result = trained
    assert result.metrics["steps"] == 4
    assert result.metrics["kid_low"] <= result.metrics["kid"] <= result.metrics["kid_high"]
    file = job.tracker.client.download_artifacts(result.run_id, gan.GENERATOR, str(tmp_path))
    drawn = keras.models.load_model(file, safe_mode=True).predict_on_batch(networks.latents(3, seed=0))
    assert drawn.shape == (3, 32, 32, 3)
    assert drawn.dtype == np.uint8


def test_samples_become_a_film_and_numbers_become_curves(trained: tuple[GanJob, StageResult], tmp_path: Path) -> None:
    job, result = trained
    sheets = {Path(file.path).name for file in job.tracker.client.list_artifacts(result.run_id, SAMPLES)}
    assert sheets == {"step_000002.png", "step_000004.png", "samples.gif"}
    film = job.tracker.client.download_artifacts(result.run_id, "samples/samples.gif", str(tmp_path))
    with Image.open(film) as frames:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(frames)]
    assert sum(shown) == 2 * gan.FRAME, "equal frames become one that is shown longer"
    assert {"samples", "samples_over_time", "gan_curves"} <= job.tracker.pictures(result.run_id).keys()
    history = job.tracker.client.get_metric_history(result.run_id, "training/kid")
    assert [point.step for point in history] == [2, 4]
    kept = {point.step: point.value for point in history}[int(result.metrics["best_step"])]
    assert kept == pytest.approx(result.metrics["kid"])


def test_the_same_training_is_not_done_twice(trained: tuple[GanJob, StageResult], world: World) -> None:
    job = world.gan_job("again")
    crops.run(job)
    again = gan.run(job, every=2)
    assert again.reused
    assert again.run_id == trained[1].run_id


def test_too_few_photos_to_judge_by_are_said_before_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.gan_job("few")
    crops.run(job)
    monkeypatch.setattr(gan, "FEWEST_HELD_OUT", 1000)
    with pytest.raises(DataError, match="Expected at least 1000 photos"):
        gan.run(job)


def test_a_killed_process_goes_on_and_draws_what_an_undisturbed_one_draws(tmp_path: Path) -> None:
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parent), str(here.parents[2]), str(here.parents[3])])
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, killed], env=os.environ | {"PYTHONPATH": paths})
    wait(lambda: (killed / CHECKPOINT).exists() or process.poll() is not None, 300, 0.01)
    assert process.poll() is None, "it ended by itself"
    process.send_signal(signal.SIGKILL)
    process.wait()

    (killed / ".half-written.npz").write_bytes(b"PK")
    steps = fresh_and_restored(killed) + 4
    ends = [train_small(folder, steps) for folder in (killed, tmp_path / "undisturbed")]
    np.testing.assert_allclose(*(end.astype(int) for end in ends), atol=1)


def test_a_torn_checkpoint_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = train_small(tmp_path, 4)
    file = tmp_path / CHECKPOINT
    whole = file.read_bytes()
    with replacing(file) as aside:
        aside.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(train_small(tmp_path, 4), drawn)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("change", [{"done": '{"step": 2, "best_step": 2}'}, {"done": "{}"}, {"variable_0000": None}])
def test_a_checkpoint_of_another_layout_is_not_used(
    tmp_path: Path, change: dict[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    drawn = train_small(tmp_path, 4)
    file = tmp_path / CHECKPOINT
    with np.load(file) as kept:
        state = {name: kept[name] for name in kept.files} | {n: np.array(v) for n, v in change.items() if v}
    for name in [name for name, value in change.items() if value is None]:
        del state[name]
    if change.get("done") == "{}":
        state["variable_0001"] = np.zeros((1, 2, 3), np.float32)
    np.savez(file, allow_pickle=False, **state)
    np.testing.assert_array_equal(train_small(tmp_path, 4), drawn)
    assert "of another version" in caplog.text


def test_the_last_of_those_that_are_as_good_is_kept() -> None:
    def looks(*kids: float) -> list[dict[str, float]]:
        return [{"step": 100 * place, "kid": kid, "kid_high": kid + 4} for place, kid in enumerate(kids, 1)]

    assert chosen(looks(90, 6, 5, 6.9)) == 400, "no worse than noise"
    assert chosen(looks(90, 6, 5, 7.1)) == 300, "torn up late"
    assert chosen(looks(7.1, 90, 5)) == 300
    assert chosen(looks(6, 5.5, 90)) == 200


def test_a_budget_ends_with_what_is_spent_first() -> None:
    assert Budget(steps=10).over(10, 0)
    assert not Budget(steps=10).over(9, 1e9)
    assert Budget(steps=10, minutes=1).over(3, 60)
    assert Budget(minutes=2).spent(1000, 60) == 0.5


def test_a_training_knows_what_share_of_it_is_spent(tmp_path: Path) -> None:
    class Told(DCGAN):
        def train(self, step: int, spent: float = 0.0) -> dict[str, float]:
            shares.append(spent)
            return super().train(step, spent)

    shares: list[float] = []
    train(Told(CROPS, 32, seed=0, width=4), judge(), tmp_path, Budget(steps=5), every=3)
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_minutes_of_an_earlier_try_count(tmp_path: Path) -> None:
    def clock() -> float:
        clock.now += 1.0  # type: ignore[attr-defined]
        return clock.now  # type: ignore[attr-defined]

    clock.now = 0.0  # type: ignore[attr-defined]
    model = DCGAN(CROPS, 32, seed=0, width=4)
    first = train(model, judge(), tmp_path, Budget(minutes=0.1, clock=clock), every=3)
    assert 0 < first.step < 10
    again = train(DCGAN(CROPS, 32, seed=0, width=4), judge(), tmp_path, Budget(minutes=0.1, clock=clock), every=3)
    assert again.step == first.step


def train_small(folder: Path, steps: int) -> np.ndarray:
    """Train to this step, and return what the live generator draws."""
    model = DCGAN(CROPS, 32, seed=0, width=4)
    train(model, judge(), folder, Budget(steps=steps), every=3)
    return networks.draw(model.generator, networks.latents(4, seed=0))


def fresh_and_restored(folder: Path) -> int:
    """Return at which step the checkpoint is."""
    done, _ = gan_training._restored(folder, DCGAN(CROPS, 32, seed=0, width=4))
    assert done.step > 0
    return done.step
