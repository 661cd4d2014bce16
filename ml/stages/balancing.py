"""Where the decision threshold of networks lies that say more, or less, than they should."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from ml.analysis.classification import THRESHOLD
from ml.crossvalidation import Fold, pool
from ml.models.average import finite_log_odds
from ml.models.head import balancing_shift


def balance(folds: Sequence[Fold], labels: np.ndarray) -> tuple[list[Fold], float]:
    """Shift the log-odds of every fold by what suits the other folds best; return with them what suits all folds.

    A network says of the photos that it was trained on what it knows by heart, so where its decision threshold lies is
    seen on photos left out only, here as in scikit-learn's `CalibratedClassifierCV(ensemble=False)`. The models of the
    other folds were trained on this fold's photos; with labels that mean nothing one number gives nothing away: the
    accuracy stays at chance.
    """
    odds = finite_log_odds(pool(folds, len(labels)))
    balanced = []
    for fold in folds:
        others = np.concatenate([other.held_out for other in folds if other is not fold])
        shifted = expit(odds[fold.held_out] + balancing_shift(odds[others], labels[others])).astype(np.float32)
        accuracy = float(((shifted >= THRESHOLD) == labels[fold.held_out]).mean())
        balanced.append(replace(fold, probabilities=shifted, metrics=fold.metrics | {"accuracy": accuracy}))
    return balanced, balancing_shift(odds, labels)
