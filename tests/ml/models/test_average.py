from pathlib import Path

import keras
import numpy as np
import pytest

from ml.models.average import average_probabilities, build_average, shared_weights


def member(weights: float, name: str) -> keras.Model:
    """A classifier of tiny images that says much or little of how bright they are."""
    image = keras.layers.Input((2, 2, 3), dtype="uint8")
    brightness = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(image))
    answer = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(image, answer(brightness), name=name)
    answer.set_weights([np.full((12, 1), weights, np.float32), np.zeros(1, np.float32)])
    return model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 2, 2, 3), dtype=np.uint8)


def test_every_kind_has_the_same_say_and_sharpens_the_answer() -> None:
    weights = shared_weights(["frozen", "frozen", "frozen", "tuned"])
    assert weights[:3] == pytest.approx([weights[3] / 3] * 3)
    assert np.linalg.norm(weights) == pytest.approx(1)
    (probability,) = average_probabilities([[0.9], [0.5]], shared_weights(["frozen", "frozen"]))
    assert probability / (1 - probability) == pytest.approx(9 ** (1 / np.sqrt(2)), rel=1e-4)


def test_sure_members_keep_their_say_and_no_more() -> None:
    assert average_probabilities([[1.0, 0.0, 1.0], [0.9, 0.1, 0.0]], [0.5, 0.5]) == pytest.approx(
        [1.0, 0.0, 0.5], abs=1e-3
    )


@pytest.mark.parametrize("weights", [(0.3, -0.1), (30, 0.2), (-30, 30)], ids=["unsure", "one sure", "both sure"])
def test_the_network_and_the_numbers_are_one_rule(
    weights: tuple[float, float], images: np.ndarray, tmp_path: Path
) -> None:
    members = [member(weight, f"member_{place}") for place, weight in enumerate(weights)]
    network = build_average(members, [0.5, 0.7])
    answer = np.asarray(network(images))
    assert answer.shape == (20, 1)
    assert answer.dtype == np.float32
    expected = average_probabilities([np.asarray(m(images))[:, 0] for m in members], [0.5, 0.7])
    np.testing.assert_allclose(answer[:, 0], expected, atol=2e-2 if max(map(abs, weights)) > 1 else 1e-5)

    network.save(tmp_path / "average.keras")
    loaded = keras.models.load_model(tmp_path / "average.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(images), answer, atol=1e-6)
