import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ml.models import projected

PICTURES = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)


def test_enlarging_is_linear_between_the_centres_of_pixels() -> None:
    by = projected.enlarging(np.zeros(1), 16, 32)
    large = projected.enlarged(tf.constant(PICTURES), by, by).numpy()
    for channel in range(3):
        picture = Image.fromarray(PICTURES[0, :, :, channel])
        expected = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(large[0, :, :, channel], expected, atol=1e-5)


def test_a_shift_is_in_pixels_and_parts_of_them() -> None:
    plain, half, whole = projected.enlarging(np.array([0, 0.5, 1]), 16, 32)
    row = np.arange(16.0)
    np.testing.assert_allclose((whole @ row)[4:-4], (plain @ row)[4:-4] - 1, atol=1e-5)
    np.testing.assert_allclose((half @ row)[4:-4], (plain @ row)[4:-4] - 0.5, atol=1e-5)


def test_colours_of_about_half_the_pictures_stay() -> None:
    how = projected.augmentations(400, 8, 8, np.random.default_rng(0))
    for name, unchanged in (("brightness", 0), ("saturation", 1), ("contrast", 1)):
        assert 0.4 < (how[name] == unchanged).mean() < 0.6


def test_augmentation_shifts_changes_colours_and_cuts_a_hole() -> None:
    how = projected.augmentations(2, 16, 32, np.random.default_rng(0))
    plain = how | {
        "brightness": np.zeros((2, 1, 1, 1), np.float32),
        "saturation": np.ones((2, 1, 1, 1), np.float32),
        "contrast": np.ones((2, 1, 1, 1), np.float32),
    }
    seen = projected.augment(tf.constant(PICTURES), plain).numpy()
    expected = projected.enlarged(tf.constant(PICTURES), how["rows"], how["columns"]).numpy() * how["kept"]
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    holes = 1 - how["kept"].mean(axis=(1, 2, 3))
    assert ((holes > 0) & (holes <= 0.17)).all()

    grey = projected.augment(tf.constant(PICTURES), plain | {"saturation": np.zeros((2, 1, 1, 1), np.float32)}).numpy()
    np.testing.assert_allclose(grey.std(axis=3), 0, atol=1e-6)


def test_gradients_pass_the_augmentation() -> None:
    pictures = tf.constant(PICTURES)
    how = projected.augmentations(2, 16, 32, np.random.default_rng(0))
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        total = tf.reduce_sum(projected.augment(pictures, how) ** 2)
    assert np.abs(tape.gradient(total, pictures).numpy()).mean() > 0


def test_the_spectral_norm_of_a_kernel_tends_to_one() -> None:
    keras.utils.set_random_seed(0)
    layer = projected.SpectralConv2D(4, 3, use_bias=False)
    layer.build((None, 8, 8, 5))
    x = tf.random.stateless_normal((1, 8, 8, 5), (0, 1))
    layer.bias = 0.0
    for _ in range(100):
        found = layer(x)
    norm = np.linalg.svd(layer.kernel.numpy().reshape(-1, 4), compute_uv=False)[0]
    np.testing.assert_allclose(found, tf.nn.conv2d(x, layer.kernel / norm, 1, "VALID"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [64, 128])
def test_every_scale_is_judged_and_the_projection_stays_fixed(size: int) -> None:
    shapes = [(size // stride, size // stride, 3) for stride in (4, 8, 16, 32)]
    network = projected.build_discriminator(shapes, seed=0)
    logits = network([np.zeros((2, *shape), np.float32) for shape in shapes])
    assert [x.shape[-1] for x in logits] == [1] * 4
    fixed, again = (
        [layer.get_weights() for layer in one.layers if layer.weights and not layer.trainable]
        for one in (network, projected.build_discriminator(shapes, seed=0))
    )
    assert len(fixed) == 7
    keras.tree.map_structure(np.testing.assert_array_equal, fixed, again)
