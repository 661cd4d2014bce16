"""Augment: the tuned network, trained on photos that are changed at random each time an epoch shows them.

The changes happen while training, to the photos trained on alone: no copy of a photo that is judged is ever seen.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from ml import figures, training
from ml.crossvalidation import Fold
from ml.models import hypermodel
from ml.models.augmentation import Batches, change_layers, samples
from ml.models.complexity import multiply_adds
from ml.models.hypermodel import Configuration
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.job import Findings, Job, perform
from ml.stages.scratch import Bench
from ml.tracking import StageRun
from ml.training import FreshStart

STAGE = "augment"
EPOCHS = 1 / 4
"""Epochs, as a part of those of the search: each shows a photo several times."""
SHOWN = 8
"""Photos on the sheet, each beside what is made of it."""
VERSIONS = 5


def run(job: Job, tuned: StageResult, copies: int) -> StageResult:
    """Judge the network that `tuned` proposes out of fold, trained with `copies` of each photo an epoch.

    Every fold is trained with the configuration that was chosen without it.
    """
    (candidate,) = tuned.candidates
    found = candidate.settings
    choices: dict[str, Any] = {
        **{name: found[name] for name in ("config", "by_fold", "negatives", "side", "padding", "seed")},
        "epochs": max(1, round(EPOCHS * found["epochs"])),
        "copies": copies,
        "augmentations": list(job.params.augmentations),
        "mode": found.get("mode"),
    }
    name = f"{STAGE} x{copies}"  # MLflow refuses × in names

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        course = Course(job, choices)
        stage.figure("augmented_photos", _sheet(course.bench, choices, job.animal))

        def judge(fold: int) -> Fold:
            config = choices["by_fold"][str(fold)]
            return course.bench.judge(fold, lambda places, watched: course.fit(config, places, watched))

        metrics = evaluation.cross_validate(stage, job.dataset, checkpoints, judge, choices["seed"])
        cost = multiply_adds(course.plain(choices["config"]), hypermodel.SIDE, hypermodel.SIDE)
        proposed = Candidate(name, cost, metrics["cv_accuracy_mean"], choices)
        return Findings(evaluation.sentence(metrics), metrics, (proposed,))

    return perform(job, name, choices, work)


def final_model(job: Job, settings: dict[str, Any]) -> keras.Model:
    """Return the network trained on all folds, with nothing in it that changes photos."""
    course, config = Course(job, settings), settings["config"]
    trained, _ = course.fit(config, course.bench.trained_on())
    return course.plain(config, trained)


class Course:
    """Fits configurations on augmented photos. A network stays compiled for as long as the same one is asked for."""

    def __init__(self, job: Job, choices: dict[str, Any], name: str = STAGE, by_class: bool = False) -> None:
        self.bench = Bench.of(job, choices["side"], choices["negatives"], choices["seed"], by_class)
        self._choices, self._name = choices, name
        self._kept: tuple[tuple[Configuration, int], keras.Model, FreshStart] | None = None

    def fit(
        self, config: Configuration, places: np.ndarray, watched: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[keras.Model, dict[str, list[float]]]:
        """Return the network fitted on the photos at these places, and its curves; the next call may set it back."""
        names, copies, seed, epochs = (self._choices[name] for name in ("augmentations", "copies", "seed", "epochs"))
        batch_size = config["batch_size"]
        network = self._network(config, steps=-(-len(places) * copies // batch_size))
        images, targets = self.bench.images[places], self.bench.targets[places]
        shown = Batches(images, targets, names, copies=copies, batch_size=batch_size, seed=seed)
        curves = training.fit(network, shown, epochs=epochs, seed=seed, validation=watched, name=self._name)
        return network, curves

    def plain(self, config: Configuration, trained: keras.Model | None = None) -> keras.Model:
        """Return the network with nothing in it that changes photos, and with the weights of the `trained` one."""
        network = self._build(config, epochs=1, steps=1)
        if trained:
            network.set_weights(trained.get_weights())
        return network

    def _network(self, config: Configuration, steps: int) -> keras.Model:
        if self._kept is None or self._kept[0] != (config, steps):
            keras.backend.clear_session()  # what Keras keeps of it; TensorFlow keeps its traces
            changes = change_layers(self._choices["augmentations"], self._choices["seed"])
            network = self._build(config, epochs=self._choices["epochs"], steps=steps, augmentation=changes)
            self._kept = (config, steps), network, FreshStart(network)
        _, network, start = self._kept
        start.restore()
        return network

    def _build(self, config: Configuration, **how: Any) -> keras.Model:
        return hypermodel.build(config, self._choices["seed"], classes=len(self.bench.positive), **how)


def _sheet(bench: Bench, choices: dict[str, Any], animal: str) -> Figure:
    """Some of the photos trained on, half of them of the animal, each in a row with what is made of it."""
    drawn = bench.balanced(bench.trained_on())
    halves = [drawn[bench.labels[drawn] == label][: SHOWN // 2] for label in (1, 0)]
    photos = bench.images[np.concatenate(halves)]
    made = samples(photos, choices["augmentations"], VERSIONS, choices["seed"])
    captions = ["original", *[""] * VERSIONS] * len(photos)
    title = f"{animal}: photos as training sees them ({', '.join(choices['augmentations'])})"
    rows = np.concatenate([photos[None], made]).swapaxes(0, 1).reshape(-1, *photos.shape[1:])
    return figures.contact_sheet(list(rows), captions, title, columns=1 + VERSIONS)
