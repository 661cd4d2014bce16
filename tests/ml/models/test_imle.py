import numpy as np
import pytest
import tensorflow as tf
import two_devices
from hypothesis import given
from hypothesis import strategies as st

from ml import devices
from ml.devices import Devices
from ml.models import imle
from ml.models.imle import IMLE, greedy_matching
from ml.precision import BFLOAT16

SIZE, WIDTH = 32, 8


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """A bright disc, each time another colour."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:38, :38] - 18.5
    inside = (np.hypot(y, x) < 12)[..., None]
    colours = random.integers(100, 256, (6, 1, 1, 3))
    return np.where(inside, colours, 40).astype(np.uint8)


@pytest.fixture(scope="module")
def model(crops: np.ndarray) -> IMLE:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imle, "CANDIDATES", 32)
        patch.setattr(imle, "RAMP", (6, 8))
        patch.setattr(imle, "ROUND", 4)
        yield IMLE(crops, SIZE, 0, WIDTH)


def test_a_training_goes_on_from_its_state_as_if_nothing_had_happened(model: IMLE) -> None:
    first = [model.train(step) for step in range(5)]
    state = {name: array.copy() for name, array in model.state().items()}
    ahead = [model.train(step) for step in range(5, 10)]
    averages = model.averaged.get_weights()
    for step in range(10, 12):
        model.train(step)
    model.restore(state)
    assert [model.train(step) for step in range(5, 10)] == ahead
    for after, before in zip(model.averaged.get_weights(), averages, strict=True):
        np.testing.assert_array_equal(after, before)

    assert set(first[0]) == {"loss_perceptual", "loss_pixels"}
    assert set(ahead[-1]) == {"loss_perceptual", "loss_pixels", "loss_hinge", "loss_fooled"}
    assert ahead[0]["loss_perceptual"] < first[0]["loss_perceptual"]


def test_every_photo_and_its_mirror_image_has_a_latent_of_its_own(model: IMLE) -> None:
    model.batch(0)
    state = model.state()
    pictures, latents = state["matched_pictures"], state["matched_latents"]
    assert len(pictures) == len(latents) == 2 * len(model.crops)
    assert len(np.unique(latents, axis=0)) == len(latents)
    np.testing.assert_array_equal(pictures[len(model.crops) :], pictures[: len(model.crops), :, ::-1])


def test_the_discriminator_comes_in_gently(model: IMLE) -> None:
    assert "real" not in model.batch(5)
    weights = [float(model.batch(step)["adversarial"]) for step in (6, 7, 8, 50)]
    assert weights == pytest.approx([0, imle.ADVERSARIAL / 2, imle.ADVERSARIAL, imle.ADVERSARIAL])


def test_in_a_short_training_it_comes_in_by_the_share_that_is_spent(model: IMLE) -> None:
    start, end = imle.RAMP_SHARES
    assert "real" not in model.batch(1, start - 0.01)
    weights = [model.batch(1, spent)["adversarial"] for spent in ((start + end) / 2, 1.0)]
    assert weights == pytest.approx([imle.ADVERSARIAL_SHORT / 2, imle.ADVERSARIAL_SHORT])
    assert model.batch(8, 1.0)["adversarial"] == pytest.approx(imle.ADVERSARIAL)
    assert [model.pictures(1, spent) for spent in (0, start, 1)] == [imle.HALF, 2 * imle.HALF, 2 * imle.HALF]


def test_the_learning_rates_go_down_to_nothing_at_the_end(model: IMLE) -> None:
    def moved(spent: float) -> float:
        weights = model.generator.trainable_variables[0]
        before = weights.numpy()
        model.train(20, spent)
        return float(np.abs(weights.numpy() - before).max())

    moves = [moved(spent) for spent in (0.9, 1.0)]
    assert moves[0] > 0
    assert moves[1] == 0


def test_in_bfloat16_it_learns_the_same_and_averages_in_float32(
    crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CANDIDATES": 32, "RAMP": (0, 2)}.items():
        monkeypatch.setattr(imle, name, value)
    monkeypatch.setattr(imle.projected, "build_pyramid", two_devices.pyramid)
    losses = {}
    for precision in (devices.FLOAT32, BFLOAT16):
        with Devices(tf.distribute.get_strategy(), precision).scope():
            model = IMLE(crops, SIZE, 0, WIDTH)
        losses[precision] = [model.train(step) for step in range(3)]
        assert model.generator.layers[-2].compute_dtype == precision.removeprefix("mixed_")
        assert {layer.dtype_policy.name for layer in model.averaged.layers} == {"float32"}
    for exact, rough in zip(*losses.values(), strict=True):
        assert rough == pytest.approx(exact, rel=0.1, abs=0.02)


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 99))
def test_matching_is_one_to_one_and_takes_the_nearest_pair_first(n: int, more: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets, candidates = random.normal(size=(n, 3)), random.normal(size=(n + more, 3))
    chosen = greedy_matching(targets, candidates)
    assert len(set(chosen)) == n

    distances = np.linalg.norm(targets[:, None] - candidates, axis=2)
    for _ in range(n):
        target, candidate = np.unravel_index(np.argmin(distances), distances.shape)
        assert chosen[target] == candidate
        distances[target], distances[:, candidate] = np.inf, np.inf
