"""What trains: which GPUs, in which precision; and that it doesn't matter for what is learnt."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import two_devices
from hypothesis import given
from hypothesis import strategies as st

from ml import devices, settings
from ml.devices import Devices
from ml.environment import environment
from ml.models.head import LinearHead, build_classifier
from ml.precision import BFLOAT16


def test_without_a_gpu_a_network_is_trained_as_it_is() -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for gpus in (1, 4, None):
        chosen = devices.given(gpus, rows=32)
        assert chosen == devices.default() == Devices(tf.distribute.get_strategy(), "float32")
        assert chosen.copy(network) is network


def test_without_a_gpu_the_precision_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "precision_of_cpu", lambda: BFLOAT16)
    assert devices.given(None, rows=8).precision == BFLOAT16


def test_float16_is_for_trainings_that_scale_their_loss() -> None:
    strategy = tf.distribute.get_strategy()
    kept = {before: Devices(strategy, before).unscaled().precision for before in ("float32", "mixed_bfloat16")}
    assert all(before == after for before, after in kept.items())
    assert Devices(strategy, devices.FLOAT16).unscaled().precision == devices.FLOAT32


@given(st.integers(1, 12), st.integers(1, 64))
def test_every_device_gets_as_many_rows(n: int, rows: int) -> None:
    chosen = devices.sharing(n, rows)
    assert 1 <= chosen <= n
    assert rows % chosen == 0
    assert all(rows % more for more in range(chosen + 1, n + 1))


def test_no_device_shares_nothing() -> None:
    assert devices.sharing(0, 32) == 0


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 5)], "mixed_float16"),
        ([(7, 5), (7, 5)], "float32"),
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (9, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 0)], "float32"),
    ],
)
def test_the_precision_is_what_the_gpus_are_fast_in(capabilities: list[tuple[int, int]], expected: str) -> None:
    assert devices.precision(capabilities) == expected


@pytest.mark.parametrize(
    ("flags", "mode", "expected"),
    [
        ("avx2 avx512f", "BF16", "float32"),
        ("avx512f avx512_bf16", "BF16", "mixed_bfloat16"),
        ("avx512f amx_bf16 amx_tile", "BF16", "mixed_bfloat16"),
        ("avx512f amx_bf16 amx_tile", "", "float32"),
    ],
)
def test_a_processor_that_multiplies_in_bfloat16_may_be_told_to(
    flags: str, mode: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n")
    monkeypatch.setenv("TF_SET_ONEDNN_FPMATH_MODE", mode)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert devices.precision_of_cpu(tmp_path / "cpuinfo") == expected
    assert devices.precision_of_cpu(tmp_path / "no such file") == "float32"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert devices.precision_of_cpu(tmp_path / "cpuinfo") == "float32"


@pytest.mark.parametrize(("side", "size", "padding"), [(8, 3, "same"), (7, 5, "same"), (9, 3, "valid")])
def test_a_copy_in_bfloat16_has_the_gradients_of_strided_depthwise_convolutions(
    side: int, size: int, padding: str
) -> None:
    keras.utils.set_random_seed(0)
    pictures = keras.Input((side, side, 3))
    scaled = keras.layers.Rescaling(1 / 128, offset=-1)(pictures)
    network = keras.Model(pictures, keras.layers.DepthwiseConv2D(size, 2, padding, activation="relu6")(scaled))
    with Devices(tf.distribute.get_strategy(), BFLOAT16).scope():
        low = devices.copied(network)
    assert low.output.dtype == "bfloat16"

    x = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, side, side, 3)), tf.float32)
    gradients = []
    for one in (network, low):
        with tf.GradientTape() as tape:
            tape.watch(x)
            drawn = tf.cast(one(x), tf.float32)
            total = tf.reduce_sum(drawn**2)
        gradients.append((drawn, tape.gradient(total, x)))
    for exact, rough in zip(*gradients, strict=True):
        np.testing.assert_allclose(rough, exact, atol=0.02 * np.abs(exact).max())


def test_the_compiled_way_back_is_that_of_tensorflow() -> None:
    x = tf.constant([-1.0, 0.0, 0.01, 3.0, 5.9, 6.0, 7.0], tf.bfloat16)
    found = []
    for activation in (devices.relu6, tf.nn.relu6):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        found.append([value.numpy().tolist() for value in (y, tape.gradient(y, x, 2 * tf.ones_like(y)))])
    assert found[0] == found[1]


def test_a_gpu_lends_memory_as_it_is_needed(tmp_path: Path) -> None:
    chosen = settings.read({"MENAGERIE_HOME": str(tmp_path)})
    assert environment(chosen)["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.fixture(scope="module")
def exact() -> tuple[keras.Model, keras.Model, LinearHead]:
    return two_devices.tune(devices.default())


# Float16 passes over the first steps, until the loss is scaled so that nothing overflows: 3 of these 15. Bfloat16 may
# round a gradient near zero to the other side, and AdamW steps as far by it: 0.004 to 0.14, as the photos are ordered.
@pytest.mark.parametrize("precision", [devices.FLOAT16, BFLOAT16])
def test_mixed_precision_gives_nearly_the_same_network_in_float32(
    exact: tuple[keras.Model, keras.Model, LinearHead], precision: str, tmp_path: Path
) -> None:
    network, tuner, head = two_devices.tune(Devices(tf.distribute.get_strategy(), precision))
    assert keras.config.dtype_policy().name == "float32"
    assert tuner.get_layer("last").compute_dtype == precision.removeprefix("mixed_")
    assert isinstance(tuner.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == devices.FLOAT16)
    assert tuner.output.dtype == "float32"

    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}
    classifier = build_classifier(network, head)
    classifier.save(tmp_path / "tuned.keras")
    said = keras.models.load_model(tmp_path / "tuned.keras", safe_mode=True).predict_on_batch(two_devices.images())
    assert said.dtype == np.float32
    expected = build_classifier(exact[0], exact[2]).predict_on_batch(two_devices.images())
    np.testing.assert_allclose(said, expected, atol=0.01)
    # Of a feature that hardly varies, the weight is large, and no more exact than the feature is.
    spread = exact[0].predict_on_batch(two_devices.images()).std(axis=0)[:, None]
    weights, exactly = head.kernel * spread, exact[2].kernel * spread
    np.testing.assert_allclose(weights, exactly, atol=0.02 * np.abs(exactly).max())
    start = two_devices.backbone().get_weights()
    assert two_devices.apart(exact[0].get_weights(), network.get_weights(), start) < 0.5


@pytest.fixture(scope="module")
def on_two() -> dict[str, Any]:
    """What `two_devices` prints."""
    done = subprocess.run(
        [sys.executable, two_devices.__file__], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_two_devices_fine_tune_as_one(on_two: dict[str, Any]) -> None:
    found = on_two["finetune"]
    assert (found["mirrored"], found["plain"]) == (2, 1)
    assert found["weights"] < 1e-3
    assert found["head"] < 1e-3
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-3)


@pytest.mark.parametrize("recipe", ["imle", "dcgan"])
def test_two_devices_train_a_gan_as_one_and_go_on_with_its_state(on_two: dict[str, Any], recipe: str) -> None:
    found = on_two[recipe]
    assert found["mirrored"] == 2
    one, two = ([*losses, further] for losses, further in zip(found["losses"], found["goes_on"], strict=True))
    for ours, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    assert found["weights"] < 0.01
    assert found["drawn"] <= 1
    assert found["restored"]
