"""The linear head on frozen features, chosen and calibrated on predictions for rows left out.

A softmax over all class names of the training photos beats a yes/no head: "a wolf" says more than "not a fox". Ridge
regression on the class indicators predicts every training row as if its group had not been there, in closed form. On
these C honest scores a row, a discriminant analysis gives logits (penalised discriminant analysis: Hastie, Buja &
Tibshirani, Annals of Statistics 23, 1995; they take the fitted scores, but with few rows left-out ones are far
better), and penalty, temperature and decision threshold are chosen.

Of an animal that no class holds the softmax only knows which class it is nearest to, and often that is the animal. So
the log-odds of a second ridge regression are added, on animal or not, in which every class counts the same: it looks
for what sets the animal apart from all others. All is linear, so it folds into one layer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logsumexp
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ml.errors import DataError
from ml.models.ridge import Floats, Ridge, fewest_coordinates

# Relative to the mean squared length of a feature vector.
PENALTIES = (0.1, 0.3, 1.0)
BINARY_PENALTY = 1.0

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
    return problem.head(problem.best(), problem.binary())


@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_heads_without_class(
    features: Floats, classes: ArrayLike, is_positive: NDArray[np.bool_], groups: NDArray[np.integer], penalty: float
) -> dict[str, LinearHead]:
    """For each class of other animals by name, the head fitted and calibrated without any of its photos.

    The arguments are those of `fit_head`, and `penalty` is that of its head. The scale of the features and the weights
    of the rows are those of all rows, so that each refit follows in closed form from the regressions on all rows.

    Returns nothing where the other animals are one class: without it there is nothing to tell the animal from.
    """
    problem = Problem.of(features, classes, is_positive, groups)
    if (~problem.positive).sum() < 2:
        return {}
    return {name: part.head(fit, binary) for name, part, fit, binary in problem.leaving_classes_out(penalty)}


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


class BinaryFit(NamedTuple):
    """Calibrated log-odds of the animal = rows @ weights + offset; `odds` [N] are of rows whose group was left out."""

    weights: Floats
    offset: float
    odds: NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Rows to fit ridge regressions on: standardised features and a one, in as few coordinates as they span.

    Attributes:
        names: the classes, in the order of the columns; `index` says which each row is in, int [N].
        positive: which classes are the animal, bool [C].
        rows: float32 [N, K]; `basis` leads from coordinates to features, if they differ.
        mean, scale: the standardisation of the features, float32 [D].
        row_weights: with which the animal counts as much as all others, and these evenly over their classes; their mean
            is 1, float32 [N].
    """

    names: tuple[str, ...]
    index: NDArray[np.integer]
    positive: NDArray[np.bool_]
    groups: NDArray[np.integer]
    rows: Floats
    basis: Floats | None
    mean: Floats
    scale: Floats
    row_weights: Floats

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
        rows, basis = fewest_coordinates(rows)
        weights = _balanced_weights(index, positive)
        return cls(tuple(names.tolist()), index, positive, groups, rows, basis, mean, scale, weights)

    @cached_property
    def gram(self) -> Floats:
        """float32 [K, K]"""
        return self.rows.T @ self.rows

    @cached_property
    def indicators(self) -> Floats:
        """Which class each row is in, one-hot, float32 [N, C]."""
        return np.eye(len(self.names), dtype=np.float32)[self.index]

    @cached_property
    def is_positive(self) -> NDArray[np.bool_]:
        """Whether each row is the animal, bool [N]."""
        return self.positive[self.index]

    @cached_property
    def signs(self) -> Floats:
        """1 for the animal and -1 for others, each times the root of the row's weight, float32 [N, 1]."""
        return (np.where(self.is_positive, 1, -1) * np.sqrt(self.row_weights)).astype(np.float32)[:, None]

    def best(self) -> RidgeFit:
        """The fit whose penalty gives the least log loss on rows left out."""
        return min((self.fit(penalty) for penalty in PENALTIES), key=lambda fit: fit.loss)

    def fit(self, penalty: float) -> RidgeFit:
        return self._calibrated(penalty, *self._ridge(penalty).fit(self.indicators))

    def binary(self) -> BinaryFit:
        """The ridge regression on animal or not, with weights."""
        return self._calibrated_binary(*self._weighted_ridge().fit(self.signs))

    def leaving_classes_out(self, penalty: float) -> Iterator[tuple[str, "Problem", RidgeFit, BinaryFit]]:
        """Each class of other animals, the problem without it in the same units and coordinates, and its two fits."""
        ridge, weighted = self._ridge(penalty), self._weighted_ridge()
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
                row_weights=self.row_weights[~inside],
            )
            fit = part._calibrated(penalty, *ridge.fit_without(inside, part.indicators))
            yield self.names[column], part, fit, part._calibrated_binary(*weighted.fit_without(inside, part.signs))

    def _ridge(self, penalty: float) -> Ridge:
        return Ridge(self.rows, self.gram, self.groups, penalty)

    def _weighted_ridge(self) -> Ridge:
        rows = self.rows * np.sqrt(self.row_weights)[:, None]
        return Ridge(rows, rows.T @ rows, self.groups, BINARY_PENALTY)

    def _calibrated(self, penalty: float, coefficients: Floats, scores: Floats) -> RidgeFit:
        to_logits, offset = _discriminants(scores, self.indicators)
        logits = scores @ to_logits + offset
        factor, loss = _temperature(logits, self.indicators)
        weights = coefficients @ to_logits
        return RidgeFit(penalty, loss, coefficients, factor * weights, factor * offset, scores, factor * logits)

    def _calibrated_binary(self, coefficients: Floats, scores: Floats) -> BinaryFit:
        odds = scores[:, 0].astype(np.float64) / np.sqrt(self.row_weights)
        unit = 1 / max(float(odds.std()), 1e-6)
        scale, shift = self._calibrate(lambda scale: scale * unit * odds)
        return BinaryFit(scale * unit * coefficients[:, 0], shift, scale * unit * odds + shift)

    def _calibrate(self, odds: Callable[[float], NDArray[np.float64]]) -> tuple[float, float]:
        """The scale and the shift with the least balanced log loss of `odds(scale)` [N] + shift.

        The labels are not quite 0 and 1 (Platt 1999), or the scale of odds without errors would have no end.
        As both sides weigh the same, each counts as many photos as the smaller one has.
        """
        fewer = min(self.is_positive.sum(), (~self.is_positive).sum())
        labels = np.where(self.is_positive, fewer + 1, 1) / (fewer + 2)
        weights = _balanced_weights(self.index, self.positive)

        def loss(chosen: NDArray[np.float64]) -> float:
            found = odds(float(np.exp(chosen[0]))) + chosen[1]
            return float(np.mean(weights * (np.logaddexp(0, found) - labels * found)))

        log_scale, shift = minimize(loss, (0.0, 0.0), method="L-BFGS-B", bounds=[(-7, 3), (-10, 10)]).x
        return float(np.exp(log_scale)), float(shift)

    def in_features(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weights of the rows [K, C] as a kernel [D, C] and a bias [C] for the features as they are."""
        weights = weights if self.basis is None else self.basis @ weights
        kernel = self.scale[:, None] * weights[:-1]
        return kernel, weights[-1] - self.mean @ kernel

    def head(self, fit: RidgeFit, binary: BinaryFit) -> LinearHead:
        """The log-odds of the softmax and of the binary fit summed, calibrated together."""
        logits = fit.logits.astype(np.float64)
        scale, shift = self._calibrate(lambda scale: log_odds(scale * logits, self.positive) + scale * binary.odds)
        kernel, bias = self.in_features(fit.weights + binary.weights[:, None] * self.positive)
        bias = scale * (bias + fit.offset + binary.offset * self.positive) + shift * self.positive
        kernel = (scale * kernel).astype(np.float32)
        return LinearHead(self.names, self.positive, kernel, bias.astype(np.float32), fit.penalty)


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


def log_odds(logits: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.floating]:
    """log P(positive classes) - log P(other classes): [N, C] -> [N]."""
    odds: NDArray[np.floating] = logsumexp(logits[:, positive], axis=1) - logsumexp(logits[:, ~positive], axis=1)
    return odds


def balancing_shift(odds: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> float:
    """What to add to the log-odds for the least log loss with positives and negatives weighing the same."""
    weights = np.where(is_positive, 0.5 / is_positive.mean(), 0.5 / (1 - is_positive.mean()))
    signs = np.where(is_positive, -1.0, 1.0)

    def loss(shift: float) -> float:
        return float(np.mean(weights * np.logaddexp(0, signs * (odds + shift))))

    return float(minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-3}).x)


def _balanced_weights(index: NDArray[np.integer], positive: NDArray[np.bool_]) -> Floats:
    """Weights of rows, their mean 1: half for the animal, half for the others, evenly over their classes."""
    photos = np.bincount(index, minlength=len(positive))
    share = np.where(positive, 1 / photos[positive].sum(), 1 / ((~positive).sum() * photos)) / 2
    weights: Floats = (share[index] * len(index)).astype(np.float32)
    return weights


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
