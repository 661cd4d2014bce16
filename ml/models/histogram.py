"""The floor: a support vector machine on colour histograms, which knows nothing of shapes. A network has to beat it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

LEVELS = 8
"""Levels a colour channel is divided into."""
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
INNER_FOLDS = 4


@dataclass(frozen=True)
class HistogramClassifier:
    """A fitted machine."""

    machine: Pipeline

    def predict(self, histograms: NDArray[np.float32]) -> NDArray[np.float32]:
        """The margin, squashed to 0..1, of [N, D]: float32 [N]. A ranking with its threshold at 0.5, not calibrated."""
        return expit(2 * self.machine.decision_function(histograms)).astype(np.float32)


def colour_histogram(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The square roots of the shares of each of 512 colours in a photo uint8 [H, W, 3]: float32 [512].

    With square roots, distances are Hellinger's, which suit histograms (Arandjelovic & Zisserman 2012, section 2).
    """
    levels = photo.reshape(-1, 3).astype(np.int32) * LEVELS // 256
    colours = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    return np.sqrt(np.bincount(colours, minlength=LEVELS**3) / len(colours)).astype(np.float32)


def fit_histogram_classifier(
    histograms: NDArray[np.float32], labels: NDArray[np.bool_], groups: NDArray[np.integer], seed: int
) -> HistogramClassifier:
    """The machine for [N, D]; its penalty is chosen in inner folds that never cut near-duplicates (`groups` [N])."""
    machine = make_pipeline(StandardScaler(with_std=False), SVC(kernel="rbf", gamma="scale", class_weight="balanced"))
    folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
    search = GridSearchCV(machine, {"svc__C": PENALTIES}, scoring="balanced_accuracy", cv=folds)
    search.fit(histograms, labels, groups=groups)
    return HistogramClassifier(search.best_estimator_)
