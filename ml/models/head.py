"""The linear head on frozen features: penalised discriminant analysis, chosen and calibrated on rows left out.

A softmax over all class names of the training photos beats a yes/no head: "a wolf" says more than "not a fox". Ridge
regression on the class indicators gives two things in closed form: predictions for rows left out of the fit, and the
discriminants of Fisher's analysis with the same penalty (Hastie, Buja & Tibshirani, "Penalized Discriminant Analysis",
Annals of Statistics 23, 1995). So one factorisation a penalty gives honest logits for every training row, and on those
the penalty, the temperature and the decision threshold are chosen.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, qr, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp

from ml.errors import DataError

Floats = NDArray[np.float32]

# Relative to the mean squared length of a feature vector.
PENALTIES = (0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class LinearHead:
    """softmax(features @ kernel + bias), summed over the positive classes; from 0.5 on it is the animal.

    Attributes:
        classes: names, in the order of the columns.
        positive: which classes are the animal, bool [C].
        kernel: float32 [D, C], the standardisation of the features folded in.
        bias: float32 [C], the decision threshold folded in.
        penalty: the ridge penalty chosen.
    """

    classes: tuple[str, ...]
    positive: NDArray[np.bool_]
    kernel: Floats
    bias: Floats
    penalty: float

    def predict(self, features: Floats) -> Floats:
        """Probability of the animal, were it on every second photo: [N, D] -> float32 [N] in 0 to 1."""
        return expit(log_odds(features @ self.kernel + self.bias, self.positive)).astype(np.float32)


def fit_head(
    features: Floats, classes: ArrayLike, is_positive: NDArray[np.bool_], groups: NDArray[np.integer]
) -> LinearHead:
    """The head for these photos; deterministic, and everything is chosen on these rows alone.

    Args:
        features: [N, D].
        classes: a class name for each row [N]; two classes make it a plain binary head.
        is_positive: whether the row's class is the animal [N].
        groups: near-duplicates share a number [N]; they are left out together.

    Raises `DataError` where there are not both positives and negatives, or a class is both.
    """
    names, index = np.unique(np.asarray(classes), return_inverse=True)
    positive = _positive_classes(names, index, is_positive)
    indicators = np.eye(len(names), dtype=np.float32)[index]

    mean = features.mean(axis=0)
    scale = 1 / ((features.std(axis=0) + 1e-6) * np.sqrt(features.shape[1]))
    ones = np.ones((len(features), 1), np.float32)
    rows = np.hstack([(features - mean) * scale, ones]).astype(np.float32)
    coordinates, basis = _fewest_coordinates(rows)
    gram = coordinates.T @ coordinates

    best = None
    for penalty in PENALTIES:
        coefficients, fitted, left_out = _ridge(coordinates, gram, indicators, groups, penalty)
        to_logits, offset = _discriminants(fitted, indicators)
        logits = left_out @ to_logits + offset
        temperature, loss = _temperature(logits, index)
        if best is None or loss < best[0]:
            best = loss, penalty, temperature * logits, temperature * coefficients @ to_logits, temperature * offset
    assert best is not None
    _, penalty, logits, weights, offset = best

    shift = _balancing_shift(log_odds(logits, positive), is_positive)
    weights = weights if basis is None else basis @ weights
    kernel = scale[:, None] * weights[:-1]
    bias = weights[-1] + offset - mean @ kernel + shift * positive
    return LinearHead(
        tuple(names.tolist()), positive, kernel.astype(np.float32), bias.astype(np.float32), penalty
    )


def build_classifier(backbone: keras.Model, head: LinearHead) -> keras.Model:
    """Backbone and head as one network of built-in layers.

    Input: uint8 RGB [N, height, width, 3]; output: float32 [N, 1], what `LinearHead.predict` says of its features.
    """
    image = layers.Input((None, None, 3), dtype="uint8", name="image")
    softmax = layers.Dense(len(head.classes), activation="softmax", name="classes")
    positives = layers.Dense(1, use_bias=False, name="probability")
    model = keras.Model(image, positives(softmax(backbone(image))), name=f"{backbone.name}_classifier")
    softmax.set_weights([head.kernel, head.bias])
    positives.set_weights([head.positive.astype(np.float32)[:, None]])
    return model


def log_odds(logits: Floats, positive: NDArray[np.bool_]) -> Floats:
    """log P(positive classes) - log P(other classes): [N, C] -> [N]."""
    odds: Floats = logsumexp(logits[:, positive], axis=1) - logsumexp(logits[:, ~positive], axis=1)
    return odds


def _positive_classes(
    names: NDArray[np.str_], index: NDArray[np.integer], is_positive: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    share = np.bincount(index, weights=is_positive) / np.bincount(index)
    mixed = names[(share > 0) & (share < 1)]
    if len(mixed):
        raise DataError(
            f"A class is the animal or it is not; received photos of both labels in {', '.join(mixed)}."
            " Mend the animal's globs."
        )
    positive: NDArray[np.bool_] = share == 1
    if positive.all() or not positive.any():
        raise DataError(
            f"A classifier needs photos of the animal and of others; received only {'positives' if positive.all() else 'negatives'}"
            f" in {len(index)} photos."
        )
    return positive


def _fewest_coordinates(rows: Floats) -> tuple[Floats, Floats | None]:
    """Rows [N, D] in an orthonormal basis of their span when N < D; ridge doesn't notice, and is much cheaper there."""
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, triangle = qr(rows.T, mode="economic")
    return np.ascontiguousarray(triangle.T), basis


def _ridge(
    rows: Floats, gram: Floats, targets: Floats, groups: NDArray[np.integer], penalty: float
) -> tuple[Floats, Floats, Floats]:
    """Ridge regression: coefficients [D, C], fitted values [N, C], and values predicted without the row's group [N, C].

    With the hat matrix H, leaving group g out changes its residuals to (I - H_gg)^-1 (T - HT)_g.
    """
    factor = cholesky(gram + penalty * np.eye(len(gram), dtype=np.float32), lower=True, check_finite=False)
    half = solve_triangular(factor, rows.T, lower=True, check_finite=False)  # H = half.T @ half
    projected = half @ targets
    coefficients = solve_triangular(factor, projected, lower=True, trans="T", check_finite=False)
    fitted = half.T @ projected
    residuals = targets - fitted
    left_out = residuals / (1 - np.einsum("dn,dn->n", half, half))[:, None]
    for members in _several(groups):
        block = half[:, members]
        left_out[members] = np.linalg.solve(np.eye(len(members)) - block.T @ block, residuals[members])
    return coefficients, fitted, targets - left_out


def _several(groups: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """The rows of every group that has more than one."""
    order = np.argsort(groups, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [run for run in runs if len(run) > 1]


def _discriminants(fitted: Floats, indicators: Floats) -> tuple[Floats, Floats]:
    """The map from ridge's fits to the logits of a discriminant analysis with equal class sizes: [C, C] and [C]."""
    centroids = (indicators.T @ fitted) / indicators.sum(axis=0)[:, None]
    within = fitted - indicators @ centroids
    covariance = within.T @ within / len(within)
    # Fits sum to one, so one direction has no variance.
    covariance += 1e-6 * np.trace(covariance) * np.eye(len(covariance), dtype=np.float32)
    to_logits = np.linalg.solve(covariance, centroids.T)
    return to_logits, -0.5 * np.sum(centroids.T * to_logits, axis=0)


def _temperature(logits: Floats, index: NDArray[np.integer]) -> tuple[float, float]:
    """The factor on the logits with the least log loss (Guo et al. 2017, "On Calibration", section 4.2), and that loss."""
    rows = np.arange(len(index))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(np.exp(log_factor) * logits, axis=1)[rows, index].mean())

    result = minimize_scalar(loss, bounds=(-7, 3), method="bounded", options={"xatol": 0.02})
    return float(np.exp(result.x)), float(result.fun)


def _balancing_shift(odds: Floats, is_positive: NDArray[np.bool_]) -> float:
    """What to add to the log-odds for the least log loss with positives and negatives weighing the same."""
    weights = np.where(is_positive, 0.5 / is_positive.mean(), 0.5 / (1 - is_positive.mean()))
    signs = np.where(is_positive, -1.0, 1.0)

    def loss(shift: float) -> float:
        return float(np.mean(weights * np.logaddexp(0, signs * (odds + shift))))

    return float(minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 0.01}).x)
