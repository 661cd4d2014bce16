from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.errors import DataError
from ml.models import head as module
from ml.models.head import BinaryFit, LinearHead, Problem, build_classifier, fit_head, fit_heads_without_class
from ml.models.ridge import Ridge

NAMES = np.array(["fox", "lion", "owl", "wolf"])


Blobs = tuple[np.ndarray, np.ndarray, np.ndarray]


def blobs(seed: int, each: int, dimensions: int = 30, spread: float = 1.5) -> Blobs:
    """Features of classes that are clouds of points, their names, and whether each is a fox."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(NAMES, each)
    centres = np.random.default_rng(0).normal(size=(len(NAMES), dimensions))
    features = np.repeat(centres, each, axis=0) + rng.normal(scale=spread, size=(len(classes), dimensions))
    return features.astype(np.float32), classes, classes == "fox"


def accuracy(head: LinearHead, features: np.ndarray, is_positive: np.ndarray) -> float:
    return float(np.mean((head.predict(features) > 0.5) == is_positive))


def fit(features: np.ndarray, classes: np.ndarray, is_positive: np.ndarray) -> LinearHead:
    return fit_head(features, classes, is_positive, np.arange(len(classes)))


@pytest.mark.parametrize("each", [12, 150], ids=["fewer rows than features", "more rows than features"])
def test_learns_what_it_has_not_seen(each: int) -> None:
    head = fit(*blobs(1, each, dimensions=60))
    features, _, is_positive = blobs(2, 200, dimensions=60)
    assert accuracy(head, features, is_positive) > 0.9


def test_class_names_say_more_than_yes_and_no() -> None:
    """One animal between two others: a single line can't cut it out, the classes of its neighbours can."""
    rng = np.random.default_rng(0)
    classes = np.repeat(["a", "fox", "z"], 100)
    features = (np.repeat([-4.0, 0.0, 4.0], 100)[:, None] * [1, 0] + rng.normal(size=(300, 2))).astype(np.float32)
    features[:, 1] += np.where(classes == "fox", 2, 0)
    is_positive = classes == "fox"
    named = fit(features, classes, is_positive)
    binary = fit(features, np.where(is_positive, "fox", "other"), is_positive)
    assert accuracy(named, features, is_positive) > accuracy(binary, features, is_positive) + 0.03


def test_probabilities_are_calibrated_for_an_even_share_of_animals() -> None:
    """Trained on a third as many foxes as others, tested on as many: what is said is what happens."""
    head = fit(*blobs(1, 300, spread=5))
    features, _, is_positive = blobs(2, 3000, spread=5)
    keep = np.concatenate([np.flatnonzero(is_positive), np.flatnonzero(~is_positive)[::3]])
    said, happened = head.predict(features[keep]), is_positive[keep]
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (said >= low) & (said < low + 0.2)
        assert inside.sum() > 50
        assert abs(said[inside].mean() - happened[inside].mean()) < 0.1
    assert abs(happened[said > 0.5].mean() - (1 - happened[said <= 0.5].mean())) < 0.05


def test_rows_left_out_are_predicted_as_by_a_fit_without_them() -> None:
    features, classes, _ = blobs(1, 10, dimensions=8)
    rows = np.hstack([features, np.ones((40, 1), np.float32)])
    indicators = (classes[:, None] == NAMES).astype(np.float32)
    groups = np.arange(40) // 2 * (np.arange(40) < 20) + np.arange(40) * 100 * (np.arange(40) >= 20)
    _, left_out = Ridge(rows, rows.T @ rows, groups, 0.7).fit(indicators)
    for group in np.unique(groups):
        rest = rows[groups != group].astype(np.float64)
        coefficients = np.linalg.solve(rest.T @ rest + 0.7 * np.eye(9), rest.T @ indicators[groups != group])
        np.testing.assert_allclose(left_out[groups == group], rows[groups == group] @ coefficients, atol=1e-4)


@pytest.mark.parametrize("each", [4, 40], ids=["fewer rows than features", "more rows than features"])
def test_leaving_a_class_out_is_a_ridge_regression_without_its_rows(each: int) -> None:
    features, classes, is_positive = blobs(1, each)
    groups = np.arange(len(classes)) // 2
    problem = Problem.of(features, classes, is_positive, groups)
    for name, part, found, _ in problem.leaving_classes_out(0.3):
        rest = classes != name
        assert part.names == tuple(np.unique(classes[rest]))
        np.testing.assert_array_equal(part.indicators, classes[rest][:, None] == np.asarray(part.names))
        plain = part.fit(0.3)
        np.testing.assert_allclose(found.coefficients, plain.coefficients, atol=1e-3)
        np.testing.assert_allclose(found.scores, plain.scores, atol=1e-3)
        rows = problem.rows[rest].astype(np.float64)
        expected = np.linalg.solve(rows.T @ rows + 0.3 * np.eye(rows.shape[1]), rows.T @ part.indicators)
        np.testing.assert_allclose(plain.coefficients, expected, atol=1e-3)


def test_a_head_without_a_class_says_what_a_refit_without_its_photos_says(monkeypatch: pytest.MonkeyPatch) -> None:
    features, classes, is_positive = blobs(1, 100)
    groups = np.arange(len(classes)) // 2
    heads = fit_heads_without_class(features, classes, is_positive, groups, 0.3)
    assert list(heads) == ["lion", "owl", "wolf"]
    monkeypatch.setattr(module, "PENALTIES", (0.3,))
    test, _, _ = blobs(2, 100)
    for name, head in heads.items():
        rest = classes != name
        refit = fit_head(features[rest], classes[rest], is_positive[rest], groups[rest])
        assert head.classes == refit.classes
        # Of three classes of others one more or less shifts the scale of the features and the weights a little.
        np.testing.assert_allclose(head.predict(test), refit.predict(test), atol=0.1)


def test_what_sets_the_animal_apart_keeps_unseen_classes_away() -> None:
    """Foxes have something that no other class has; without it an unseen class is taken for whatever is nearest."""
    rng = np.random.default_rng(0)
    names = np.array(["fox", *(f"other {kind}" for kind in range(11))])
    centres = rng.normal(size=(12, 40)) * (np.arange(40) > 0)
    centres[0, 0] = 2
    classes = np.repeat(names, 40)
    features, test = (
        (np.repeat(centres, 40, axis=0) + rng.normal(scale=1.5, size=(480, 40))).astype(np.float32) for _ in range(2)
    )
    problem = Problem.of(features, classes, classes == "fox", np.arange(480))
    alarms = np.zeros(2)
    for name, part, softmax, binary in problem.leaving_classes_out(0.3):
        nothing = BinaryFit(0 * binary.weights, 0, 0 * binary.odds)
        heads = [part.head(softmax, added) for added in (nothing, binary)]
        alarms += [(head.predict(test[classes == name]) >= 0.5).mean() / 11 for head in heads]
    assert alarms[1] < 0.85 * alarms[0]


def test_no_head_goes_without_the_only_class_of_others() -> None:
    features, classes, is_positive = blobs(1, 10)
    others = np.where(is_positive, "fox", "other")
    assert fit_heads_without_class(features, others, is_positive, np.arange(len(classes)), 0.3) == {}


def test_copies_in_one_group_do_not_count_as_proof() -> None:
    """On noise, copies would make every penalty look right; kept together they leave the head unsure."""
    rng = np.random.default_rng(3)
    features = np.repeat(rng.normal(size=(60, 40)), 2, axis=0).astype(np.float32)
    classes = np.repeat(np.tile(["fox", "wolf"], 30), 2)
    is_positive = classes == "fox"
    known = fit_head(features, classes, is_positive, np.arange(120) // 2)
    ignored = fit_head(features, classes, is_positive, np.arange(120))
    doubt = [np.abs(head.predict(features) - 0.5).mean() for head in (known, ignored)]
    assert doubt[0] < doubt[1] - 0.1


def test_several_classes_may_be_the_animal() -> None:
    features, classes, _ = blobs(1, 100)
    head = fit(features, classes, np.isin(classes, ["fox", "wolf"]))
    test, names, _ = blobs(2, 100)
    assert head.positive.tolist() == [name in ("fox", "wolf") for name in head.classes]
    assert accuracy(head, test, np.isin(names, ["fox", "wolf"])) > 0.9


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(0.01, 100), offset=st.floats(-10, 10), seed=st.integers(0, 100))
def test_the_unit_of_a_feature_and_the_order_of_rows_mean_nothing(factor: float, offset: float, seed: int) -> None:
    features, classes, is_positive = blobs(seed, 20, dimensions=10)
    order = np.random.default_rng(seed).permutation(len(features))
    changed = (features * factor + offset * factor).astype(np.float32)
    plain = fit(features, classes, is_positive).predict(features)
    other = fit(changed[order], classes[order], is_positive[order]).predict(changed)
    np.testing.assert_allclose(plain, other, atol=5e-3)


def test_a_constant_feature_does_no_harm() -> None:
    features, classes, is_positive = blobs(1, 50)
    features[:, 0] = 7
    assert np.isfinite(fit(features, classes, is_positive).predict(features)).all()


def test_a_class_of_both_labels_is_refused() -> None:
    features, classes, is_positive = blobs(1, 5)
    is_positive[-1] = True
    with pytest.raises(DataError, match="wolf"):
        fit(features, classes, is_positive)


@pytest.mark.parametrize("label", [True, False])
def test_one_label_alone_is_refused(label: bool) -> None:
    features, classes, _ = blobs(1, 5)
    with pytest.raises(DataError, match="needs photos of the animal and of others"):
        fit(features, classes, np.full(len(classes), label))


def test_the_classifier_says_what_head_and_backbone_say_and_loads_anywhere(tmp_path: Path) -> None:
    layers = keras.layers
    backbone = keras.Sequential(
        [
            layers.Input((None, None, 3)),
            layers.Rescaling(1 / 128, -1),
            layers.Conv2D(6, 3),
            layers.GlobalAveragePooling2D(),
        ],
        name="tiny",
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    images[::2, ..., 0] //= 2
    classes = np.tile(["fox", "wolf"], 20)
    features = np.asarray(backbone(images))
    head = fit(features, classes, classes == "fox")

    build_classifier(backbone, head, canvas=(12, 12)).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    probabilities = np.asarray(model(images))
    assert probabilities.shape == (40, 1)
    assert probabilities.dtype == np.float32
    assert model.input.dtype == "uint8"
    assert model.input_shape == (None, 12, 12, 3)
    assert build_classifier(backbone, head).input_shape == (None, None, None, 3)
    np.testing.assert_allclose(probabilities[:, 0], head.predict(features), atol=1e-4)
