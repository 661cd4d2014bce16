"""What every modelling stage leaves in its run: its out-of-fold predictions, the numbers and the pictures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ml import crossvalidation, figures
from ml.analysis import classification, intervals
from ml.analysis.prevalence import operating_points, thresholds
from ml.analysis.unseen import unseen_classes, unseen_metrics
from ml.crossvalidation import Fold
from ml.data.datasets import Dataset
from ml.stages.answers import UNSEEN
from ml.tracking import StageRun

if TYPE_CHECKING:
    import keras

OUT_OF_FOLD = "out_of_fold"
COURSE = "out_of_fold_course"
BY_GROUP = "errors_by_group"
"""The table of errors at each site, or whatever `group` in animals.toml names; there is none without it."""
UNSEEN_CLASSES = "unseen_classes"
"""The table of how often each class of others is called the animal by models that never saw it, if it's measured."""
UNSEEN_WORST = "unseen_worst_classes"
"""The tag that names the first of them."""
WORST_CLASSES = 3
OPERATING_POINTS = "operating_points"
"""The table of what is found at which threshold."""
SENSITIVITIES = (0.8, 0.9, 0.95, 0.97, 0.99)
COURSE_METRICS = ("accuracy_mean", "accuracy_std", "accuracy_low", "accuracy_high", "roc_auc_mean", "ece")
TIMED = 32


def cross_validate(
    run: StageRun, dataset: Dataset, checkpoints: Path, judge: Callable[[int], Fold], seed: int
) -> dict[str, float]:
    """Let `judge` judge every fold, log everything about the out-of-fold predictions, and return the metrics."""
    rows = dataset.training
    outcomes = crossvalidation.cross_validate(sorted(rows.fold.unique()), checkpoints, judge)
    return report(run, dataset, outcomes, crossvalidation.pool(outcomes, len(rows)), seed)


def judged(
    labels: np.ndarray,
    held_out: np.ndarray,
    probabilities: np.ndarray,
    trained: np.ndarray,
    fitted: np.ndarray,
    curves: dict[str, list[float]] | None = None,
) -> Fold:
    """Return a fold from the `probabilities` of the photos `held_out` and the `fitted` ones of those `trained` on.

    Both name photos by their places in `labels`, bool or 0/1 [N].
    """
    metrics = {
        "accuracy": float(((probabilities >= classification.THRESHOLD) == labels[held_out]).mean()),
        "train_accuracy": float(((fitted >= classification.THRESHOLD) == labels[trained]).mean()),
    }
    return Fold(held_out, probabilities, curves or {}, metrics)


def scored(rows: pd.DataFrame, probabilities: np.ndarray, seed: int) -> dict[str, float]:
    """Return the metrics of out-of-fold `probabilities` [N]; the accuracy's interval counts groups, not photos.

    `rows` have the columns `label`, `class`, `fold` and `group`.
    """
    labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    metrics = classification.evaluate(labels, probabilities, classes, rows.fold.to_numpy(), seed)
    correct = (probabilities >= classification.THRESHOLD) == labels
    low, high = intervals.accuracy_interval(correct, intervals.Photos.of(labels, classes, rows.group))
    return metrics | {"cv_accuracy_low": low, "cv_accuracy_high": high}


def report(
    run: StageRun, dataset: Dataset, folds: list[Fold], probabilities: np.ndarray, seed: int
) -> dict[str, float]:
    """Log everything about the out-of-fold `probabilities` of `dataset.training`; return the metrics."""
    rows = dataset.training
    labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    metrics = scored(rows, probabilities, seed)
    trained = [fold.metrics["train_accuracy"] for fold in folds]
    metrics["train_accuracy_mean"] = float(np.mean(trained))
    metrics["overfit_gap"] = metrics["train_accuracy_mean"] - metrics["cv_accuracy_mean"]
    metrics["n_drawings"] = float(rows.drawn.sum())

    for number, fold in enumerate(folds):
        run.child(f"fold {number}", fold.metrics, fold.curves)
    predictions = out_of_fold(dataset, probabilities)
    unseen = crossvalidation.pool_unseen(folds, len(rows))
    if not np.isnan(unseen).all():
        predictions[UNSEEN] = unseen
        metrics |= _unseen(run, predictions)
    run.table(OUT_OF_FOLD, predictions)
    run.table("errors_by_class", classification.class_errors(labels, probabilities, classes))
    if "scene" in rows and (named := (rows.scene != "").to_numpy()).any():
        found = classification.class_errors(labels[named], probabilities[named], rows.scene[named].to_numpy(str))
        run.table(BY_GROUP, found.rename(columns={"class": "group"}))
    _draw(run, dataset, labels, classes, probabilities, metrics, seed)
    curves = [fold.curves for fold in folds if fold.curves]
    if curves:
        run.figure("learning_curves", figures.learning_curves(curves, dataset.animal))
    return metrics


def course(run: StageRun, dataset: Dataset, probabilities: Sequence[np.ndarray], seed: int) -> dict[str, float]:
    """Log what models trained on balanced draws only say out of fold, float32 [N] a draw; return their mean metrics.

    It is the protocol of a small course: 100 photos of the animal against 100 others, in training too.
    """
    rows = dataset.training
    labels, classes, folds = rows.label.to_numpy(bool), rows["class"].to_numpy(str), rows.fold.to_numpy()
    found = pd.DataFrame([classification.evaluate(labels, said, classes, folds, seed) for said in probabilities])
    run.table(COURSE, pd.DataFrame({f"draw_{draw}": said for draw, said in enumerate(probabilities)}))
    return {f"course_{name}": float(found[f"cv_{name}"].mean()) for name in COURSE_METRICS}


def cost(model: "keras.Model", height: int, width: int) -> dict[str, float]:
    """Return what a model of photos costs: million parameters, and milliseconds a photo on this machine, as it is."""
    images = np.zeros((TIMED, height, width, 3), np.uint8)
    model.predict_on_batch(images)
    started = time.perf_counter()
    model.predict_on_batch(images)
    spent = time.perf_counter() - started
    return {"million_parameters": model.count_params() / 1e6, "milliseconds_a_photo": 1000 * spent / TIMED}


def out_of_fold(dataset: Dataset, probabilities: np.ndarray) -> pd.DataFrame:
    """Return one row a training photo: what identifies it, its truth, and the probability that its fold gave."""
    rows = dataset.training[["sha256", "path", "label", "class", "fold", "group"]]
    return rows.assign(probability=probabilities)


def sentence(metrics: dict[str, float]) -> str:
    """Return the accuracy with its interval and the numbers of photos, in words."""
    one_draw = classification.draw_size(metrics["n_positives"], metrics["n_photos"] - metrics["n_positives"])
    accuracy, low, high = (metrics[f"cv_accuracy_{name}"] for name in ("mean", "low", "high"))
    return (
        f"accuracy {accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}, {one_draw:,.0f} photos a balanced draw), "
        f"ROC-AUC {metrics['cv_all_roc_auc']:.4f} on all {metrics['n_photos']:,.0f} photos"
    )


def unseen_sentence(metrics: dict[str, float], animal: str) -> str:
    """Return in words how often animals that no folder holds are called `animal`; an empty text if not measured."""
    if "unseen_false_alarms" not in metrics:
        return ""
    share, low, high = (metrics[f"unseen_false_alarms{end}"] for end in ("", "_low", "_high"))
    return f"{share:.1%} ({low:.1%} to {high:.1%}) of the photos of a class left out of training are called {animal}"


def worst_classes(predictions: pd.DataFrame) -> str:
    """Return which unseen classes of an out-of-fold table are called the animal most often: "wolf 89.0%, owl 12.5%"."""
    worst = _unseen_classes(predictions).head(WORST_CLASSES)
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(worst["class"], worst.false_alarms, strict=True))


def operating(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the operating points of an out-of-fold table: at the threshold .5, and at some sensitivities."""
    return operating_points(predictions, [classification.THRESHOLD, *thresholds(predictions, SENSITIVITIES)])


def operating_metrics(points: pd.DataFrame) -> dict[str, float]:
    """Return the false alarms at each sensitivity as metrics: `false_alarms_at_95`, `unseen_false_alarms_at_95`."""
    return {
        f"{name}_at_{100 * sensitivity:.0f}": float(row[name])
        for sensitivity, (_, row) in zip(SENSITIVITIES, points[1:].iterrows(), strict=True)
        for name in ("false_alarms", "unseen_false_alarms")
        if name in points
    }


def _unseen(run: StageRun, predictions: pd.DataFrame) -> dict[str, float]:
    """Log how often photos of unseen classes are called the animal; return the metrics."""
    run.table(UNSEEN_CLASSES, _unseen_classes(predictions))
    run.tag(UNSEEN_WORST, worst_classes(predictions))
    labels, classes = predictions.label.to_numpy(bool), predictions["class"].to_numpy(str)
    return unseen_metrics(labels, predictions.probability.to_numpy(), predictions[UNSEEN].to_numpy(), classes)


def _unseen_classes(predictions: pd.DataFrame) -> pd.DataFrame:
    labels, classes = predictions.label.to_numpy(bool), predictions["class"].to_numpy(str)
    return unseen_classes(labels, predictions[UNSEEN].to_numpy(), classes)


def _draw(
    run: StageRun,
    dataset: Dataset,
    labels: np.ndarray,
    classes: np.ndarray,
    probabilities: np.ndarray,
    metrics: dict[str, float],
    seed: int,
) -> None:
    draws = classification.balanced_draws(labels, classes, seed)
    weights = classification.draw_weights(draws, len(labels))
    animal = dataset.animal
    matrices = {
        "mean of balanced draws": classification.confusion_matrix(labels, probabilities, weights),
        "all photos": classification.confusion_matrix(labels, probabilities),
    }
    run.figure("confusion_matrix", figures.confusion_matrix(matrices, animal))
    run.figure("roc_curve", figures.roc_curve(labels, probabilities, weights, animal))
    bins = classification.reliability_bins(labels, probabilities, weights)
    brier, error, by_chance = (metrics[f"cv_{name}"] for name in ("brier", "ece", "ece_by_chance"))
    run.figure("reliability", figures.reliability_diagram(bins, brier, error, by_chance, animal))

    wrong = np.flatnonzero((probabilities >= classification.THRESHOLD) != labels)
    rows = dataset.training.iloc[wrong]
    sheet = figures.mistakes(
        [dataset.pixels(index) for index in rows.index],
        labels[wrong],
        probabilities[wrong],
        classes[wrong],
        rows.path.tolist(),
        animal,
        len(labels),
    )
    run.figure("mistakes", sheet)
