"""The champions of all animals as one network, which computes what they have in common once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from ml import animals
from ml.data.incoming import Canvas, Incoming
from ml.errors import DataError, LostError
from ml.models.backbones import BACKBONES, build_backbone
from ml.models.joint import join
from ml.settings import Settings
from ml.tracking import RegisteredVersion, Tracker

BATCH = 32
YARDSTICK = "EfficientNetLite0"
"""The network in whose features photos are compared. To champions that stand on it, it adds nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jury:
    """The champions, ready to judge."""

    animals: tuple[str, ...]
    canvases: tuple[Canvas, ...]
    """How the network takes photos: one of each is an input."""
    network: keras.Model

    @classmethod
    def assemble(cls, champions: dict[str, RegisteredVersion], tracker: Tracker) -> "Jury":
        """Load the champions, by animal, and put them together; one that can't be loaded is warned of and left out.

        Raises:
            DataError: none can be loaded.
        """
        models = {}
        for animal, champion in champions.items():
            try:
                models[animal] = tracker.load_model(champion)
            except LostError as error:
                log.warning("%s is left out. %s", animal, error)
        if not models:
            raise DataError(
                f"None of the champions of {' and '.join(champions)} can be loaded: see the warnings above."
            )
        yardstick = BACKBONES[YARDSTICK]
        canvases = [
            *(_canvas(model, champions[animal]) for animal, model in models.items()),
            Canvas(*yardstick.canvas, yardstick.padding),
        ]
        images = {
            canvas: keras.Input((canvas.height, canvas.width, 3), dtype="uint8", name=f"image_{number}")
            for number, canvas in enumerate(dict.fromkeys(canvases))
        }
        network = join([*models.values(), build_backbone(YARDSTICK)], [images[canvas] for canvas in canvases])
        jury = cls(tuple(models), tuple(images), network)
        jury.judge([])  # TensorFlow makes its program now, so that the time of the photos is theirs
        return jury

    def judge(self, batch: Sequence[Incoming]) -> tuple[np.ndarray, np.ndarray]:
        """Return what the champions say of at most `BATCH` photos that could be read, and their features.

        Probabilities are float32 [N, animals], features those of the yardstick, float32 [N, D].
        """
        # Always a full batch: for any other number of photos TensorFlow would make another program, and keep it.
        given = [np.zeros((BATCH, canvas.height, canvas.width, 3), np.uint8) for canvas in self.canvases]
        for row, photo in enumerate(batch):
            for images, image in zip(given, photo.images, strict=True):
                images[row] = image
        *said, features = keras.tree.flatten(self.network.predict_on_batch(given))
        return np.concatenate(said, axis=1)[: len(batch)], features[: len(batch)]


def champions(settings: Settings, tracker: Tracker) -> dict[str, RegisteredVersion]:
    """Return the champion of each animal that has one that can be used.

    Raises:
        DataError: none has.
    """
    names = list(animals.read(settings.animals))
    if not names:
        raise DataError(f"Expected an animal in {settings.animals}. Received: tables that can't be used, all of them.")
    there = tracker.champions(names)
    if not there:
        raise DataError(
            f"Expected a champion of {' or '.join(names)} in the model registry at {tracker.uri}. Received: none. "
            f"Run validate_images, then retrain_{names[0]} and so on, and look at what their promotion decided."
        )
    return there


def _canvas(model: keras.Model, champion: RegisteredVersion) -> Canvas:
    height, width = model.input_shape[1:3]
    return Canvas(height, width, champion.padding)
