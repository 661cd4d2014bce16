"""Fine-tuning: the upper half of the best pretrained network learns these animals; a candidate of its own.

What the frozen lower half makes of each view of a photo is computed once and kept, so fine-tuning passes no photo
through it, whatever the fold, the run or the animal.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ml import devices, progress, training
from ml.analysis import selection
from ml.analysis.classification import balanced_subset
from ml.crossvalidation import Fold, cross_validate, pool
from ml.data.views import PLAIN
from ml.errors import DataError
from ml.models import finetuning
from ml.models.backbones import BACKBONES, build_backbone
from ml.models.finetuning import Batches
from ml.models.head import LinearHead, build_classifier, fit_head
from ml.results import Candidate, StageResult
from ml.stages import evaluation
from ml.stages.answers import answers_of
from ml.stages.balancing import balance
from ml.stages.features import features, maps
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "finetune"
HOW = {
    "views": 3,
    "trainings": 2,
    "others": 6,
    "batch_size": 32,
    "learning_rate": 5e-4,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "dropout": 0.3,
}
"""Of these, `trainings` is how many there are whose weights are averaged, and `others` how many photos of other animals
an epoch shows for each of this animal; they take turns."""

CHUNK = 64

log = logging.getLogger(__name__)


def run(job: Job, results: Sequence[StageResult], how: Mapping[str, Any] = HOW) -> StageResult:
    """Fine-tune the simplest network within one standard error of the best of the transfer stages' `results`.

    It is judged out of fold, on the folds of the dataset. `how` has the keys of `HOW`.
    """
    best = _best(job, results)
    log.info("%s is fine-tuned, the simplest within one standard error of the best", best.settings["backbone"])
    choices = {
        "seed": job.params.seed,
        "backbone": best.settings["backbone"],
        "cut": BACKBONES[best.settings["backbone"]].cut,
        "canvas": best.settings["canvas"],
        "padding": best.settings["padding"],
        "negatives": "balanced" if job.params.train_negatives == "balanced" else "all",
        "epochs": job.params.finetune_epochs,
        "precision": devices.given(job.settings.gpus, how["batch_size"]).precision,
        **how,
    }
    stage_name = f"{STAGE} {choices['backbone']}"

    def work(stage: StageRun, checkpoints: Path) -> Findings:
        tuning = _Tuning(job, choices)
        labels, folds = job.dataset.training.label.to_numpy(bool), job.dataset.training.fold
        judged = cross_validate(sorted(folds.unique()), checkpoints, tuning.judge)
        balanced, shift = balance(judged, labels)
        metrics = evaluation.report(stage, job.dataset, balanced, pool(balanced, len(labels)), job.params.seed)
        metrics |= evaluation.cost(tuning.backbone, *choices["canvas"])
        candidate = Candidate(stage_name, best.complexity, metrics["cv_accuracy_mean"], choices | {"shift": shift})
        return Findings(evaluation.sentence(metrics), metrics, (candidate,))

    return perform(job, stage_name, choices, work)


def final_model(job: Job, choices: dict) -> keras.Model:
    """Return the network fine-tuned on all folds: uint8 photos in, probability of the animal out."""
    tuning = _Tuning(job, choices)
    head, _ = tuning.fit(np.arange(len(job.dataset.training)))
    head = replace(head, bias=(head.bias + choices["shift"] * head.positive).astype(np.float32))
    model = build_classifier(tuning.backbone, head, tuple(choices["canvas"]))
    model.name = f"{model.name}_tuned"  # beside the frozen one in an average
    return model


class _Tuning:
    """What all folds of a job share: what the frozen half made of the photos, and the network to train, as it began."""

    def __init__(self, job: Job, choices: Mapping[str, Any]) -> None:
        self._choices, name, self._rows = choices, choices["backbone"], job.dataset.training
        self._labels = self._rows.label.to_numpy(bool)
        self._classes = self._rows["class"].to_numpy(str)
        self._names, numbers = np.unique(self._classes, return_inverse=True)
        self._targets = np.eye(len(self._names), dtype=np.float32)[numbers]

        self.backbone = build_backbone(name)
        lower, upper = finetuning.split(self.backbone, choices["cut"])
        self._features = features(job.dataset, self._rows.index, name, job.settings)
        self._views = [
            maps(job.dataset, self._rows.index, lower, name, number, job.settings)
            for number in progress.each("view", range(choices["views"]))
        ]
        self._shapes = finetuning.shapes_across(lower, *choices["canvas"])
        self._upper = upper
        self._model = finetuning.build_tuner(
            upper,
            len(self._names),
            learning_rate=choices["learning_rate"],
            weight_decay=choices["weight_decay"],
            label_smoothing=choices["label_smoothing"],
            dropout=choices["dropout"],
            seed=choices["seed"],
            on=devices.given(job.settings.gpus, choices["batch_size"]),
        )
        self._beginning = training.FreshStart(self._model)

    def judge(self, fold: int) -> Fold:
        """Train without the fold, and judge its photos; of those trained on, as many as a balanced draw has."""
        trained, held_out = np.flatnonzero(self._rows.fold != fold), np.flatnonzero(self._rows.fold == fold)
        head, curves = self.fit(trained, watched=self._balanced(held_out))
        known = self._balanced(trained)
        probabilities, fitted = (head.predict(self._tuned(places)) for places in (held_out, known))
        return evaluation.judged(self._labels, held_out, probabilities, known, fitted, curves)

    def fit(self, places: np.ndarray, watched: np.ndarray | None = None) -> tuple[LinearHead, dict[str, list[float]]]:
        """Train on photos `places`; return the head on the tuned features, and the curves.

        Several trainings begin alike, see the photos in other orders, and end in the average of their weights: one
        network that is better than each (model soups: Wortsman et al. 2022). The curves are the means of theirs, those
        of the photos `watched` are drawn, nothing more.
        """
        choices = self._choices
        if choices["negatives"] == "balanced":
            places = self._balanced(places)
        groups = np.unique(self._rows.group.to_numpy(str)[places], return_inverse=True)[1]
        frozen, labels = self._features[places], self._labels[places]
        head = fit_head(frozen, self._classes[places], labels, groups)
        columns = np.searchsorted(self._names, head.classes)
        n_others = min((~labels).sum(), choices["others"] * labels.sum())

        trainings = []
        for number in progress.each("training", range(choices["trainings"])):
            self._beginning.restore()
            finetuning.start(self._model, head, columns, frozen)
            history = self._train(places, n_others, choices["seed"] + number, watched)
            trainings.append((self._model.get_weights(), history))
        weights, histories = zip(*trainings, strict=True)
        self._model.set_weights([np.mean(same, axis=0) for same in zip(*weights, strict=True)])
        finetuning.hand_over(self._model, self._upper)
        curves = {name: np.mean([one[name] for one in histories], axis=0).tolist() for name in histories[0]}
        return finetuning.tuned_head(self._model, head, columns, odds=labels.sum() / n_others), curves

    def _train(
        self, places: np.ndarray, n_others: int, seed: int, watched: np.ndarray | None
    ) -> dict[str, list[float]]:
        choices, is_animal = self._choices, self._labels[places]
        several = self._model.distribute_strategy.num_replicas_in_sync
        batches = Batches(
            self._views,
            self._targets,
            places[is_animal],
            self._shapes,
            choices["batch_size"],
            seed,
            multiple=several,
            others=places[~is_animal],
            n_others=n_others,
        )
        keras.utils.set_random_seed(seed)
        fitted = self._model.fit(
            batches,
            epochs=choices["epochs"],
            validation_data=None if watched is None else self._watched(watched[: len(watched) // several * several]),
            validation_batch_size=CHUNK,
            callbacks=[
                finetuning.CosineRate(choices["learning_rate"]),
                training.Epochs(STAGE, choices["epochs"]),
            ],
            verbose=0,
        )
        history: dict[str, list[float]] = fitted.history
        return history

    def _balanced(self, places: np.ndarray) -> np.ndarray:
        return balanced_subset(places, self._labels, self._classes, self._choices["seed"])

    def _tuned(self, places: np.ndarray) -> np.ndarray:
        """The features of photos `places` as the upper half gives them now, float32 [K, D]."""
        chunks = np.split(places, range(CHUNK, len(places), CHUNK))
        return np.concatenate([self._upper.predict_on_batch(self._plain(chunk)) for chunk in chunks])

    def _watched(self, places: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        return self._plain(places), self._targets[places]

    def _plain(self, places: np.ndarray) -> list[np.ndarray]:
        return finetuning.unpack(np.stack([self._views[PLAIN][place] for place in places]), self._shapes)


def _best(job: Job, results: Sequence[StageResult]) -> Candidate:
    """Return the simplest candidate within one standard error of the best, by their out-of-fold answers for all photos.

    What is fine-tuned is therefore a little optimistic: it was chosen with the photos that it is judged on.

    Raises:
        DataError: there is none.
    """
    proposed = {candidate.name: (candidate, result) for result in results for candidate in result.candidates}
    if not proposed:
        raise DataError(
            "No pretrained network to fine-tune: every transfer stage failed or was skipped. See their logs."
        )
    tables = {
        name: job.tracker.read_table(result.run_id, evaluation.OUT_OF_FOLD) for name, (_, result) in proposed.items()
    }
    costs = {name: candidate.complexity for name, (candidate, _) in proposed.items()}
    answers = answers_of(tables)
    return proposed[selection.choose(answers.credits(answers.eligible()), answers.photos, costs)][0]
