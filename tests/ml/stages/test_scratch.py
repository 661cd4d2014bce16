"""Networks from scratch: how photos pass them."""

import keras
import numpy as np

from ml.stages.scratch import CHUNK, Bench


class Traced(keras.layers.Layer):
    """Counts how often Python runs it, which is once for each size of batch that the network is traced for."""

    times = 0

    def call(self, photos: keras.KerasTensor) -> keras.KerasTensor:
        self.times += 1
        return keras.ops.mean(keras.ops.cast(photos, "float32"), axis=(1, 2))


def test_a_network_is_traced_once_for_any_number_of_photos() -> None:
    n = 2 * CHUNK + 3
    images = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), np.uint8)
    bench = Bench(images, np.arange(n) % 2, np.full(n, "any"), np.arange(n) % 5, "all", 0)
    network = keras.Sequential([keras.Input((4, 4, 1), dtype="uint8"), layer := Traced()])
    before = layer.times

    for places in (np.arange(n), np.arange(5), np.arange(CHUNK)[::-1]):
        means = images[places].mean(axis=(1, 2))[:, 0]
        np.testing.assert_allclose(bench.predict(network, places), means, rtol=1e-5)
    assert layer.times == before + 1
