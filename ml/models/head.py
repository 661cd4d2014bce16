"""The linear head on frozen features, chosen and calibrated on predictions for rows left out.

A softmax over all class names of the training photos beats a yes/no head: "a wolf" says more than "not a fox". Ridge
regression on the class indicators predicts every training row as if its group had not been there, in closed form. On
these C honest scores a row, a discriminant analysis gives logits (penalised discriminant analysis: Hastie, Buja &
Tibshirani, Annals of Statistics 23, 1995; they take the fitted scores, but with few rows left-out ones are far
better), and penalty, temperature and decision threshold are chosen. All is linear, so it folds into one layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, qr, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ml.errors import DataError

Floats = NDArray[np.float32]

# Relative to the mean squared length of a feature vector.
PENALTIES = (0.1, 0.3, 1.0)

# Photos a class that what is believed of the scores' covariance before any is seen counts as much as.
PRIOR = 5


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


# Two BLAS threads on a busy machine wait for each other: the same fit took four to five times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
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
    problem = Problem.of(features, classes, is_positive, groups)
    fit = problem.best()
    return problem.head(fit, balancing_shift(log_odds(fit.logits, problem.positive), is_positive))


@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_heads_without_class(
    features: Floats, classes: ArrayLike, is_positive: NDArray[np.bool_], groups: NDArray[np.integer], penalty: float
) -> dict[str, LinearHead]:
    """For each class of other animals by name, the head fitted and calibrated without any of its photos.

    The arguments are those of `fit_head`, and `penalty` is that of its head. The scale of the features is that of all
    rows, so that each refit follows in closed form from the ridge regression on all rows.

    Returns nothing where the other animals are one class: without it there is nothing to tell the animal from.
    """
    problem = Problem.of(features, classes, is_positive, groups)
    if (~problem.positive).sum() < 2:
        return {}
    return {
        name: part.head(fit, balancing_shift(log_odds(fit.logits, part.positive), part.positive[part.index]))
        for name, part, fit in problem.leaving_classes_out(penalty)
    }


class RidgeFit(NamedTuple):
    """A ridge regression on the class indicators, and the calibrated logits = rows @ weights + offset made of it.

    `scores` and `logits` [N, C] are of rows whose group was left out of the fit.
    """

    penalty: float
    loss: float
    coefficients: Floats
    weights: Floats
    offset: Floats
    scores: Floats
    logits: Floats


@dataclass(frozen=True)
class Problem:
    """Rows to fit ridge regressions on: standardised features and a one, in as few coordinates as they span.

    Attributes:
        names: the classes, in the order of the columns; `index` says which each row is in, int [N].
        positive: which classes are the animal, bool [C].
        rows: float32 [N, K]; `basis` leads from coordinates to features, if they differ.
        mean, scale: the standardisation of the features, float32 [D].
    """

    names: tuple[str, ...]
    index: NDArray[np.integer]
    positive: NDArray[np.bool_]
    groups: NDArray[np.integer]
    rows: Floats
    basis: Floats | None
    mean: Floats
    scale: Floats

    @classmethod
    def of(
        cls, features: Floats, classes: ArrayLike, is_positive: NDArray[np.bool_], groups: NDArray[np.integer]
    ) -> "Problem":
        names, index = np.unique(np.asarray(classes), return_inverse=True)
        positive = _positive_classes(names, index, is_positive)
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        # The floor keeps a feature that hardly moved here from shouting the first time it does.
        scale = 1 / (np.maximum(deviation, 1e-3 * deviation.mean()) * np.sqrt(features.shape[1]))
        ones = np.ones((len(features), 1), np.float32)
        rows = np.hstack([(features - mean) * scale, ones]).astype(np.float32)
        return cls(tuple(names.tolist()), index, positive, groups, *_fewest_coordinates(rows), mean, scale)

    @cached_property
    def gram(self) -> Floats:
        """float32 [K, K]"""
        return self.rows.T @ self.rows

    @cached_property
    def indicators(self) -> Floats:
        """Which class each row is in, one-hot, float32 [N, C]."""
        return np.eye(len(self.names), dtype=np.float32)[self.index]

    def best(self) -> RidgeFit:
        """The fit whose penalty gives the least log loss on rows left out."""
        return min((self.fit(penalty) for penalty in PENALTIES), key=lambda fit: fit.loss)

    def fit(self, penalty: float) -> RidgeFit:
        return self._calibrated(penalty, *_ridge(self.rows, self.gram, self.indicators, self.groups, penalty))

    def leaving_classes_out(self, penalty: float) -> Iterator[tuple[str, "Problem", RidgeFit]]:
        """Each class of other animals, the problem without it in the same units and coordinates, and its fit."""
        factor, half = _factors(self.rows, self.gram, penalty)
        for column in np.flatnonzero(~self.positive):
            inside = self.index == column
            index = self.index[~inside]
            part = replace(
                self,
                names=self.names[:column] + self.names[column + 1 :],
                index=index - (index > column),
                positive=np.delete(self.positive, column),
                groups=self.groups[~inside],
                rows=self.rows[~inside],
            )
            ridge = _ridge_without(factor, half, inside, part.indicators, part.groups)
            yield self.names[column], part, part._calibrated(penalty, *ridge)

    def _calibrated(self, penalty: float, coefficients: Floats, scores: Floats) -> RidgeFit:
        to_logits, offset = _discriminants(scores, self.indicators)
        logits = scores @ to_logits + offset
        factor, loss = _temperature(logits, self.indicators)
        weights = coefficients @ to_logits
        return RidgeFit(penalty, loss, coefficients, factor * weights, factor * offset, scores, factor * logits)

    def in_features(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weights of the rows [K, C] as a kernel [D, C] and a bias [C] for the features as they are."""
        weights = weights if self.basis is None else self.basis @ weights
        kernel = self.scale[:, None] * weights[:-1]
        return kernel, weights[-1] - self.mean @ kernel

    def head(self, fit: RidgeFit, shift: float) -> LinearHead:
        """The softmax of a fit, with `shift` added to the animal's log-odds."""
        kernel, bias = self.in_features(fit.weights)
        bias = bias + fit.offset + shift * self.positive
        return LinearHead(self.names, self.positive, kernel.astype(np.float32), bias.astype(np.float32), fit.penalty)


def build_classifier(
    backbone: keras.Model, head: LinearHead, canvas: tuple[int | None, int | None] = (None, None)
) -> keras.Model:
    """Backbone and head as one network of built-in layers.

    Input: uint8 RGB [N, *canvas, 3], of any size unless told. Output: float32 [N, 1], what `LinearHead.predict` says of
    the features.
    """
    image = layers.Input((*canvas, 3), dtype="uint8", name="image")
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


def balancing_shift(odds: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> float:
    """What to add to the log-odds for the least log loss with positives and negatives weighing the same."""
    weights = np.where(is_positive, 0.5 / is_positive.mean(), 0.5 / (1 - is_positive.mean()))
    signs = np.where(is_positive, -1.0, 1.0)

    def loss(shift: float) -> float:
        return float(np.mean(weights * np.logaddexp(0, signs * (odds + shift))))

    return float(minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-3}).x)


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
        received = "only photos of the animal" if positive.all() else "none of the animal"
        raise DataError(
            f"A classifier needs photos of the animal and of others; received {received} among {len(index)}."
        )
    return positive


def _fewest_coordinates(rows: Floats) -> tuple[Floats, Floats | None]:
    """Rows [N, D] in an orthonormal basis of their span if N < D: ridge gives the same there, for much less."""
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, triangle = qr(rows.T, mode="economic")
    return np.ascontiguousarray(triangle.T), basis


def _ridge(
    rows: Floats, gram: Floats, targets: Floats, groups: NDArray[np.integer], penalty: float
) -> tuple[Floats, Floats]:
    """Coefficients of a ridge regression [D, C], and what one without the row's group predicts for each row [N, C].

    With the hat matrix H and targets T, leaving group g out turns its residuals into (I - H_gg)^-1 (T - HT)_g.
    """
    factor, half = _factors(rows, gram, penalty)
    projected = half @ targets
    coefficients = solve_triangular(factor, projected, lower=True, trans="T", check_finite=False)
    residuals = targets - half.T @ projected
    left_out = residuals / (1 - np.einsum("dn,dn->n", half, half))[:, None]
    for members in _several(groups):
        block = half[:, members]
        left_out[members] = np.linalg.solve(np.eye(len(members)) - block.T @ block, residuals[members])
    return coefficients, targets - left_out


def _ridge_without(
    factor: Floats, half: Floats, inside: NDArray[np.bool_], targets: Floats, groups: NDArray[np.integer]
) -> tuple[Floats, Floats]:
    """What `_ridge` returns for the M rows that aren't `inside` [N], from the `_factors` of all N rows.

    Leaving rows out is the same as giving them what the others predict for them as targets, and with M of the rows the
    hat matrix is H_MM + H_MS (I - H_SS)^-1 H_SM, S being the rows left out.
    """
    rest = np.flatnonzero(~inside)
    hat = half[:, inside].T @ half
    predicting = np.linalg.solve(np.eye(len(hat), dtype=np.float32) - hat[:, inside], hat[:, rest])
    completed = np.empty((len(inside), targets.shape[1]), np.float32)
    completed[rest], completed[inside] = targets, predicting @ targets
    projected = half @ completed
    coefficients = solve_triangular(factor, projected, lower=True, trans="T", check_finite=False)
    residuals = targets - (half.T @ projected)[rest]
    leverages = np.einsum("dn,dn->n", half, half)[rest] + np.einsum("kn,kn->n", hat[:, rest], predicting)
    left_out = residuals / (1 - leverages)[:, None]
    for members in _several(groups):
        places = rest[members]
        block = half[:, places].T @ half[:, places] + hat[:, places].T @ predicting[:, members]
        left_out[members] = np.linalg.solve(np.eye(len(members)) - block, residuals[members])
    return coefficients, targets - left_out


def _factors(rows: Floats, gram: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Cholesky's factor [D, D] of the penalised Gram matrix, and `half` [D, N]: the hat matrix H is half.T @ half."""
    factor = cholesky(gram + penalty * np.eye(len(gram), dtype=np.float32), lower=True, check_finite=False)
    return factor, solve_triangular(factor, rows.T, lower=True, check_finite=False)


def _several(groups: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """The rows of every group that has more than one."""
    order = np.argsort(groups, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [run for run in runs if len(run) > 1]


def _discriminants(scores: Floats, indicators: Floats) -> tuple[Floats, Floats]:
    """Linear discriminant analysis, all classes as likely: logits = scores @ [C, C] + [C]."""
    centroids = (indicators.T @ scores) / indicators.sum(axis=0)[:, None]
    within = (scores - indicators @ centroids).astype(np.float64)
    covariance = within.T @ within / len(within)
    # Of a few photos a class the covariance is a guess: it is drawn towards the same variance in all directions, the
    # less the more photos there are (Friedman, Regularized Discriminant Analysis, JASA 84, 1989, eq. 18).
    share = PRIOR * len(covariance) / (PRIOR * len(covariance) + len(within))
    covariance = (1 - share) * covariance + share * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    # Seen from their middle, since what all logits share would only cost digits.
    middle = centroids.mean(axis=0)
    around = (centroids - middle).T
    to_logits = np.linalg.solve(covariance, around)
    offset = -0.5 * np.sum(around * to_logits, axis=0) - middle @ to_logits
    return to_logits.astype(np.float32), offset.astype(np.float32)


def _temperature(logits: Floats, indicators: Floats) -> tuple[float, float]:
    """The factor on the logits with the least log loss, and that loss (temperature scaling, Guo et al. 2017)."""

    def loss(log_factor: float) -> float:
        return -float(np.sum(indicators * log_softmax(np.exp(log_factor) * logits, axis=1))) / len(logits)

    result = minimize_scalar(loss, bounds=(-7, 3), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(result.x)), float(result.fun)
