import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.models import gan

WIDTH = 8


@pytest.fixture(scope="module")
def generator() -> keras.Model:
    keras.utils.set_random_seed(0)
    return gan.build_generator(32, WIDTH)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_generator_has_a_million_parameters_and_the_size_asked_for(size: int) -> None:
    network = gan.build_generator(size)
    assert network.output_shape == (None, size, size, 3)
    assert 0.8e6 < sum(math.prod(weights.shape) for weights in network.trainable_weights) < 1.6e6


def test_a_doubled_map_is_a_convolution_of_the_enlarged_one() -> None:
    """What makes the transposed convolution free of checkerboards."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    transposed = keras.layers.Conv2DTranspose(2, 3, 2, padding="same", use_bias=False)
    fast = keras.layers.AveragePooling2D(2, 1, padding="same")(transposed(x))
    kernel = np.asarray(transposed.kernel)[::-1, ::-1].swapaxes(2, 3)
    slow = keras.ops.conv(x.repeat(2, axis=1).repeat(2, axis=2), kernel, padding="same") / 4
    np.testing.assert_allclose(fast[:, :-1, :-1], slow[:, :-1, :-1], atol=1e-5)


def test_the_exported_generator_needs_no_code_of_ours(generator: keras.Model, tmp_path: Path) -> None:
    latents = gan.latents(5, seed=1)
    drawn = gan.draw(generator, latents)
    assert drawn.dtype == np.uint8
    assert drawn.std() > 0
    gan.exported(generator).save(tmp_path / "generator.keras")
    np.save(tmp_path / "latents.npy", latents)
    loading = (
        "import keras, numpy as np; network = keras.models.load_model('generator.keras', safe_mode=True); "
        "np.save('drawn.npy', network.predict(np.load('latents.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-I", "-c", loading], cwd=tmp_path, check=True, capture_output=True)
    loaded = np.load(tmp_path / "drawn.npy")
    assert loaded.dtype == np.uint8
    assert np.abs(loaded.astype(int) - drawn).max() <= 1


def test_what_is_exported_does_not_change_any_more(generator: keras.Model) -> None:
    network, latents = gan.exported(generator), gan.latents(2, seed=1)
    before, weights = network.predict_on_batch(latents), generator.get_weights()
    generator.set_weights([weight * 0.5 for weight in weights])
    np.testing.assert_array_equal(network.predict_on_batch(latents), before)
    generator.set_weights(weights)


def test_grain_is_noise_that_the_latents_decide() -> None:
    keras.utils.set_random_seed(0)
    latents = keras.Input((gan.LATENT,))
    network = keras.Model(latents, gan.grain(latents, 32))
    some = gan.latents(4, seed=0)
    drawn = network.predict_on_batch(some)[..., 0]
    np.testing.assert_array_equal(network.predict_on_batch(some)[..., 0], drawn)
    assert drawn.std(axis=(1, 2)).min() > 0.6
    for one, other in ((drawn[0], drawn[1]), (drawn[0], np.roll(drawn[0], 1, 0)), (drawn[0], np.roll(drawn[0], 1, 1))):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.15


@given(st.integers(1, 5), st.integers(0, 9))
def test_windows_are_cut_from_their_crops_mirrored_or_not(n: int, seed: int) -> None:
    crops = np.random.default_rng(seed).integers(0, 256, (n, 11, 11, 3), np.uint8)
    windows = gan.window(crops, 8, np.random.default_rng(seed))
    assert windows.shape == (n, 8, 8, 3)
    for crop, found in zip(gan.signed(crops), windows, strict=True):
        every = [crop[y : y + 8, x : x + 8][:, ::way] for y in range(4) for x in range(4) for way in (1, -1)]
        assert any(np.array_equal(found, one) for one in every)
