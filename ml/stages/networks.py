"""Networks of the hypermodel on a bench, each compiled once for all the folds that it is fitted on."""

import json

import keras
import numpy as np

from ml.models import hypermodel
from ml.models.hypermodel import Configuration
from ml.stages.scratch import Bench
from ml.training import FreshStart

KEPT = 2
"""Networks kept at a time: one for each length of schedule, with one fold left out and with two."""


class Networks:
    """Fits configurations. The last networks stay compiled, as tracing one takes as long as several epochs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._kept: dict[str, tuple[keras.Model, FreshStart]] = {}

    def fit(
        self,
        configuration: Configuration,
        epochs: int,
        places: np.ndarray,
        watched: tuple[np.ndarray, np.ndarray] | None = None,
        name: str = "",
    ) -> tuple[keras.Model, dict[str, list[float]]]:
        """Return the network fitted on the photos at these places, and its curves.

        It is the caller's until the next call, which may set it back.
        """
        batch_size = configuration["batch_size"]
        model, start = self._network(configuration, epochs, steps=-(-len(places) // batch_size))
        start.restore()
        return model, self._bench.fit(model, places, watched, epochs=epochs, batch_size=batch_size, name=name)

    def _network(self, configuration: Configuration, epochs: int, steps: int) -> tuple[keras.Model, FreshStart]:
        key = json.dumps([configuration, epochs, steps], sort_keys=True)
        if key not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.clear()
                keras.backend.clear_session()  # what Keras keeps of it; TensorFlow keeps its traces
            model = hypermodel.build(configuration, self._bench.seed, epochs=epochs, steps=steps)
            self._kept[key] = model, FreshStart(model)
        return self._kept[key]
