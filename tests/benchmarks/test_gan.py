"""What a training step costs beside the arithmetic of its convolutions."""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from world import make_settings

from ml import environment
from ml.models import imle
from ml.models.imle import HALF, IMLE

pytestmark = pytest.mark.benchmark
SIZE, STEPS, MOST = 64, 10, 1.3
SAVED = 0.85
STEP = """
import time
import numpy as np
from ml.models import imle

model = imle.IMLE(np.random.default_rng(0).integers(0, 256, (16, 76, 76, 3), np.uint8), 64, 0)
model.train(imle.RAMP[1])
started = time.process_time()
for _ in range(10):
    model.train(imle.RAMP[1])
print((time.process_time() - started) / 10)
"""


def multiply_adds(network: keras.Model) -> float:
    """Of all convolutions and dense layers, for one picture, also those in networks within."""
    total = 0.0
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
        elif isinstance(layer, layers.DepthwiseConv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Conv2DTranspose):
            total += math.prod(layer.input.shape[1:]) * math.prod(layer.kernel_size) * layer.filters
        elif isinstance(layer, layers.Conv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size) * layer.input.shape[-1]
        elif isinstance(layer, layers.Dense):
            total += layer.input.shape[-1] * layer.units
    return total


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    work()
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def test_a_step_takes_little_more_than_its_convolutions() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (16, 76, 76, 3), np.uint8)
    model = IMLE(crops, SIZE, 0)
    step = imle.RAMP[1]
    took = cpu_seconds(lambda: model.train(step), STEPS)

    pyramid = imle.projected.build_pyramid(model.seen)
    maps = next(layer for layer in pyramid.layers if isinstance(layer, keras.Model))
    sized = keras.models.clone_model(maps, input_tensors=keras.Input((model.seen, model.seen, 3)))
    seen = multiply_adds(sized)
    drawn, judged = multiply_adds(model.generator), multiply_adds(model.discriminator)
    # Forward, back to the input, back to the weights; the frozen network has none to learn, photos need no way back.
    flops = 2 * HALF * (3 * 2 * drawn + (2 * 2 + 1) * seen + 3 * 2 * judged)
    matrix = tf.random.stateless_normal((2048, 2048), (0, 1))
    product = tf.function(tf.matmul)
    rate = 2 * 2048**3 / cpu_seconds(lambda: product(matrix, matrix), STEPS)
    print(
        f"\na step {took * 1000:.0f} ms of CPU; {flops / 1e9:.1f} GFLOP of convolutions at {rate / 1e9:.0f} GFLOP/s "
        f"{flops / rate * 1000:.0f} ms; {took * rate / flops:.2f} times"
    )
    assert took <= MOST * flops / rate


def took(option: str, otherwise: str, home: Path) -> tuple[float, float]:
    """Measure the CPU seconds of a step in the stack's environment, and with another value of one of its options."""
    stack = environment.environment(make_settings(home / "home", home))
    as_it_is, changed = (
        float(subprocess.check_output([sys.executable, "-c", STEP], env=stack | {option: value}))
        for value in (stack[option], otherwise)
    )
    print(f"\nCPU seconds a step: {as_it_is:.3f} with {option}={stack[option]}, {changed:.3f} with {otherwise!r}")
    return as_it_is, changed


def test_onednn_saves_time(tmp_path: Path) -> None:
    with_it, without = took("TF_ENABLE_ONEDNN_OPTS", "0", tmp_path)
    assert with_it <= SAVED * without


def test_multiplying_in_bfloat16_saves_time(tmp_path: Path) -> None:
    if not {"amx_bf16", "avx512_bf16"} & set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this processor has no instructions for bfloat16")
    bfloat16, float32 = took("TF_SET_ONEDNN_FPMATH_MODE", "", tmp_path)
    assert bfloat16 <= SAVED * float32
