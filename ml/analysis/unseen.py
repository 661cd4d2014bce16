"""How often animals that no folder holds are taken for the animal.

Each class of other animals stands for one: its photos are judged by models that were trained without that class. What
varies is therefore the class, not the photo, and the intervals are those of groups that are whole classes. Photos
weigh as in balanced draws (`classification.draw_probabilities`), so every class counts about the same.

`unseen` is float [N]: the probability by models that never saw the photo's class, NaN where that isn't measured.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ml.analysis.classification import THRESHOLD, BoolArray, FloatArray, StrArray, class_errors
from ml.analysis.intervals import Photos, share_interval


def unseen_metrics(
    labels: BoolArray, probabilities: FloatArray, unseen: FloatArray, classes: StrArray
) -> dict[str, float]:
    """The metrics, by the names that they have in MLflow; none where nothing is measured.

    `unseen_auc` ranks the animal's photos by their out-of-fold `probabilities` against the others by `unseen`;
    `unseen_false_alarms`, with `_low` and `_high` of its 95 % interval, is the share of the others called the animal.
    """
    measured = ~labels & ~np.isnan(unseen)
    if not measured.any():
        return {}
    kept = measured | labels
    scores, classes, labels = np.where(labels, probabilities, unseen)[kept], classes[kept], labels[kept]
    photos = Photos.of(labels, classes, classes)
    _, others = photos.sides((scores >= THRESHOLD).astype(float))
    low, high = share_interval(others)
    return {
        "unseen_auc": float(roc_auc_score(labels, scores, sample_weight=photos.weights)),
        "unseen_false_alarms": others.mean,
        "unseen_false_alarms_low": low,
        "unseen_false_alarms_high": high,
    }


def unseen_classes(labels: BoolArray, unseen: FloatArray, classes: StrArray) -> pd.DataFrame:
    """How often each class is taken for the animal by models that never saw it, the worst first.

    Columns: `class`, `n`, `false_alarms` (their share), and its 95 % Wilson interval `low`, `high`.
    """
    measured = ~labels & ~np.isnan(unseen)
    table = class_errors(labels[measured], unseen[measured], classes[measured]).drop(columns="errors")
    return table.rename(columns={"error_rate": "false_alarms", "error_low": "low", "error_high": "high"})
