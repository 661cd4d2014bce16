"""What a training step of the GAN costs, and how much arithmetic its convolutions are.

Run as a program, in the environment of a task, since TensorFlow reads its options before it computes. It prints as
JSON the CPU seconds of a step, those of one multiplication or addition in a large product of matrices in float32, and
how many of them the step's convolutions are.
"""

import json
import math
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ml import devices
from ml.models import imle
from ml.models.imle import IMLE

SIZE, TIMES = 64, 10
STEP = imle.RAMP[1] + 1
"""One with the discriminator, and that doesn't match anew."""


def cpu_seconds(work: Callable[[], object]) -> float:
    work()
    started = time.process_time()
    for _ in range(TIMES):
        work()
    return (time.process_time() - started) / TIMES


def operations(model: IMLE) -> float:
    """Return how many multiplications and additions the convolutions of a step are, there and back."""
    batch = model.batch(STEP)
    graph = tf.function(lambda: model.train_step((batch,))).get_concrete_function().graph
    # What nothing comes of is not computed, such as how the frozen network's kernels should change.
    needed, waiting = set(), [*graph.control_outputs, *(tensor.op for tensor in graph.outputs)]
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [*operation.control_inputs, *(tensor.op for tensor in operation.inputs)]
    return 2.0 * sum(map(multiplications, needed))


def multiplications(operation: tf.Operation) -> int:
    """Return how many there are in one operation of a graph, if it is a convolution: a kernel's for every answer."""
    match operation.type.removeprefix("Depthwise"):
        case "Conv2D" | "Conv2dNative":
            answers, kernel = operation.outputs[0], operation.inputs[1]
        case "Conv2DBackpropInput" | "Conv2dNativeBackpropInput":
            answers, kernel = operation.inputs[2], operation.inputs[1]
        case "Conv2DBackpropFilter":
            answers, kernel = operation.inputs[2], operation.outputs[0]
        case _:
            return 0
    height, width, channels, _ = kernel.shape
    return math.prod(answers.shape) * height * width * (1 if operation.type.startswith("Depthwise") else channels)


def main() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (16, 76, 76, 3), np.uint8)
    with devices.given(None, IMLE.rows).scope():
        model = IMLE(crops, SIZE, 0)
    matrix, product = tf.random.stateless_normal((2048, 2048), (0, 1)), tf.function(tf.matmul)
    found = {
        "step": cpu_seconds(lambda: model.train(STEP)),
        "product": cpu_seconds(lambda: product(matrix, matrix)) / (2 * 2048**3),
        "operations": operations(model),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
