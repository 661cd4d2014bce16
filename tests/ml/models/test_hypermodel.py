import subprocess
import sys
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from ml.models.augmentation import change_layers
from ml.models.complexity import multiply_adds
from ml.models.hypermodel import LEVELS, SIDE, START, build, declare

CHANGED = ("mirror", "rotation", "brightness", "saturation")
SMALL = {**START[0], "filters": 4, "blocks": 2, "batch_size": 8}


def build_small(config: dict, seed: int = 0, augmentation: tuple[str, ...] = ()) -> keras.Model:
    return build({**SMALL, **config}, seed, epochs=1, steps=2, augmentation=change_layers(augmentation, seed))


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 3), np.uint8)


def test_the_search_starts_inside_its_space() -> None:
    hp = keras_tuner.HyperParameters()
    declare(hp)
    for start in START:
        assert start.keys() == hp.values.keys()
        for parameter in hp.space:
            value = start[parameter.name]
            if isinstance(parameter, keras_tuner.engine.hyperparameters.Choice):
                assert value in parameter.values
            elif not isinstance(parameter, keras_tuner.engine.hyperparameters.Boolean):
                assert parameter.min_value <= value <= parameter.max_value


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"colours": 0, "blocks": 1, "optimizer": "adamax", "activation": "leaky_relu"},
        {"dense": 8, "batch_norm": False, "l2": 0.0, "optimizer": "nadam"},
        {"colours": 8, "blocks": 4, "kernel_size": 5, "optimizer": "adamw", "activation": "silu", "dropout": 0.0},
    ],
)
def test_every_corner_of_the_space_learns(config: dict, photos: np.ndarray) -> None:
    model = build_small(config)
    before = model.predict(photos, verbose=0)
    model.fit(photos, np.arange(16) % 2, epochs=1, batch_size=8, verbose=0)
    after = model.predict(photos, verbose=0)

    assert after.shape == (16, 1)
    assert after.dtype == np.float32
    assert ((after >= 0) & (after <= 1)).all()
    assert not np.array_equal(before, after)
    assert multiply_adds(model, SIDE, SIDE) > 0


def test_the_same_seed_gives_the_same_fit(photos: np.ndarray) -> None:
    def fitted(seed: int) -> np.ndarray:
        model = build_small({}, seed, ("mirror", "brightness"))
        model.fit(photos, np.arange(16) % 2, epochs=1, batch_size=8, verbose=0)
        return model.predict(photos, verbose=0)

    once = fitted(3)
    np.testing.assert_array_equal(once, fitted(3))
    assert not np.array_equal(once, fitted(4))


def test_the_rate_falls_to_nothing(photos: np.ndarray) -> None:
    model = build({**SMALL, "learning_rate": 0.01}, 0, epochs=3, steps=2)
    model.fit(photos, np.arange(16) % 2, epochs=3, batch_size=8, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-8)


def test_the_histogram_counts_colours() -> None:
    photos = np.full((1, SIDE, SIDE, 3), (240, 16, 16), np.uint8)
    photos[0, : SIDE // 4] = (16, 16, 240)
    model = build_small({})
    shares = keras.Model(model.input, model.get_layer("histogram").output).predict(photos, verbose=0)
    shares = shares.reshape(LEVELS, LEVELS, LEVELS)

    assert shares.sum() == pytest.approx(1, abs=1e-4)
    assert shares[-1, 0, 0] == pytest.approx(0.75, abs=0.2)
    assert shares[0, 0, -1] == pytest.approx(0.25, abs=0.1)
    assert shares[-2:, :2, :2].sum() == pytest.approx(0.75, abs=0.02)


def test_augmentation_is_inactive_when_asked(photos: np.ndarray) -> None:
    plain, augmented = build_small({}), build_small({}, augmentation=CHANGED)
    augmented.set_weights(plain.get_weights())

    np.testing.assert_allclose(augmented.predict(photos, verbose=0), plain.predict(photos, verbose=0), atol=1e-5)
    assert not np.allclose(augmented(photos, training=True), augmented(photos, training=True))


def test_a_saved_network_answers_the_same_without_code_of_ours(photos: np.ndarray, tmp_path: Path) -> None:
    model = build_small({"dense": 8, "activation": "silu"}, augmentation=CHANGED)
    model.fit(photos, np.arange(16) % 2, epochs=1, batch_size=8, verbose=0)
    model.save(tmp_path / "network.keras")
    np.save(tmp_path / "photos.npy", photos)

    script = (
        "import keras, numpy, sys\n"
        "model = keras.saving.load_model('network.keras', safe_mode=True)\n"
        "numpy.save('answers.npy', model.predict(numpy.load('photos.npy'), verbose=0))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'ml']\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), model.predict(photos, verbose=0), atol=1e-6)
