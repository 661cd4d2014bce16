import keras
import numpy as np
import pytest
from keras import layers

from ml.errors import ParameterError
from ml.models import finetuning
from ml.models.applications import application
from ml.models.backbones import BACKBONES
from ml.models.efficientnet_lite import efficientnet_lite
from ml.models.finetuning import Batches, pack, split, unpack
from ml.models.head import LinearHead, build_classifier, fit_head

NAMES = np.array(["fox", "owl", "wolf"])
FAST = {"learning_rate": 3e-3, "weight_decay": 1e-4, "label_smoothing": 0.1, "dropout": 0.1, "seed": 0}


def small() -> keras.Model:
    """Averages of two stages, like a backbone, with a shortcut and all that stays frozen."""
    keras.utils.set_random_seed(0)
    image = layers.Input((None, None, 3), name="image")
    low = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="low")(image)
    wide = layers.Conv2D(8, 1, activation="relu", name="wide")(low)
    deep = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, padding="same", name="deep")(wide))
    top = layers.Add(name="top")([wide, layers.Activation("relu")(deep)])
    last = layers.Conv2D(16, 1, activation="relu", name="last")(top)
    averages = [layers.GlobalAveragePooling2D()(x) for x in (low, last)]
    return keras.Model(image, layers.Concatenate(name="features")(averages), name="small")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Colours that tell the classes apart, in noise."""
    random = np.random.default_rng(0)
    colours = np.repeat(np.eye(3), 20, axis=0)[:, None, None]
    return (60 * colours + random.uniform(0, 150, (60, 16, 16, 3))).astype(np.uint8)


CLASSES = np.repeat(NAMES, 20)
TARGETS = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)


def features_of(backbone: keras.Model, images: np.ndarray) -> np.ndarray:
    return backbone.predict_on_batch(images.astype(np.float32))


@pytest.mark.parametrize(
    ("build", "layer", "crossing"),
    [
        (lambda: efficientnet_lite("EfficientNetLite0"), "block_11", 6),
        (lambda: application("MobileNet025", pretrained=False), "conv_pw_11_relu", 4),
        (lambda: application("EfficientNetV2B0", pretrained=False), BACKBONES["EfficientNetV2B0"].cut, 4),
        (small, "wide", 2),
        (small, "norm", 3),
    ],
    ids=["Lite", "application", "EfficientNetV2", "end of a stage", "inside a shortcut"],
)
def test_the_halves_together_are_the_backbone(build, layer: str, crossing: int) -> None:
    backbone = build()
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    lower, upper = split(backbone, layer)
    passed = lower.predict_on_batch(image)
    assert len(passed) == crossing
    np.testing.assert_allclose(upper.predict_on_batch(passed), backbone.predict_on_batch(image), rtol=1e-4, atol=1e-4)


def test_a_cut_that_the_network_does_not_have_is_named() -> None:
    with pytest.raises(ParameterError, match=r"small can't be cut at 'nowhere'.*low, wide"):
        split(small(), "nowhere")


def test_what_was_packed_comes_back() -> None:
    random = np.random.default_rng(0)
    crossing = [random.normal(size=(5, *shape)).astype(np.float32) for shape in [(4, 4, 3), (7,)]]
    crossing[1][0, 0] = 1e6
    rows = pack(crossing)
    assert rows.dtype == np.float16
    assert np.isfinite(rows).all()
    again = unpack(rows, [(4, 4, 3), (7,)])
    crossing[1][0, 0] = np.finfo(np.float16).max
    for before, after in zip(crossing, again, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)


def test_an_epoch_shows_every_photo_once_and_the_next_by_another_view() -> None:
    targets = np.repeat(np.eye(3, dtype=np.float32), [20, 10, 30], axis=0)
    places = np.arange(5, 60)
    views = [np.column_stack([np.arange(60), np.full(60, number)]).astype(np.float16) for number in range(3)]
    batches = Batches(views, targets, places, [(1,), (1,)], batch_size=8, seed=0)
    seen: dict[int, set[int]] = {}
    for _ in range(3):
        epoch = [batches[index] for index in range(len(batches))]
        shown = np.concatenate([photos[:, 0] for (photos, _), _ in epoch])
        assert sorted(shown.tolist()) == places.tolist()
        for (photos, numbers), labels in epoch:
            np.testing.assert_array_equal(labels, targets[photos[:, 0].astype(int)])
            for photo, number in zip(photos[:, 0], numbers[:, 0], strict=True):
                seen.setdefault(int(photo), set()).add(int(number))
        batches.on_epoch_end()
    assert all(seen[photo] == {0, 1, 2} for photo in places)


def test_others_take_turns_beside_the_photos_of_every_epoch() -> None:
    targets, places, others = np.eye(60, dtype=np.float32), np.arange(12), np.arange(20, 60)
    views = [np.column_stack([np.arange(60), np.full(60, number)]).astype(np.float16) for number in range(3)]
    batches = Batches(views, targets, places, [(1,), (1,)], batch_size=8, seed=0, others=others, n_others=15)
    shown: list[tuple[int, int]] = []
    for epoch in range(1, 9):
        photos = np.concatenate([np.column_stack(batches[index][0]) for index in range(len(batches))]).astype(int)
        assert len(set(photos[:, 0])) == len(photos) == 12 + 15
        assert set(places) <= set(photos[:, 0])
        shown += [(photo, number) for photo, number in photos.tolist() if photo in others]
        times = np.bincount([photo for photo, _ in shown], minlength=60)[others]
        assert times.sum() == 15 * epoch
        assert times.max() - times.min() <= 1
        batches.on_epoch_end()
    assert len(set(shown)) == len(shown)  # three times each, by another view


@pytest.fixture
def tuning(images: np.ndarray) -> tuple[keras.Model, finetuning.Halves, keras.Model, LinearHead]:
    backbone = small()
    features = features_of(backbone, images)
    head = fit_head(features, CLASSES, CLASSES == "fox", np.arange(60))
    halves = split(backbone, "low")
    model = finetuning.build_tuner(halves.upper, 3, **FAST)
    finetuning.start(model, head, np.arange(3), features)
    return backbone, halves, model, head


def test_it_starts_with_what_the_linear_head_says(tuning, images: np.ndarray) -> None:
    backbone, (lower, _), model, head = tuning
    logits = model.predict_on_batch(lower.predict_on_batch(images.astype(np.float32)))
    expected = features_of(backbone, images) @ head.kernel + head.bias
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def test_it_learns_above_the_cut_and_the_head_answers_as_the_network(tuning, images: np.ndarray) -> None:
    backbone, (lower, upper), model, head = tuning
    before = {layer.name: layer.get_weights() for layer in backbone.layers}
    crossing = lower.predict_on_batch(images.astype(np.float32))
    batches = Batches([pack(crossing)], TARGETS, np.arange(60), finetuning.shapes_across(lower, 16, 16), 15, 0)
    rate = finetuning.CosineRate(3e-3)
    losses = model.fit(batches, epochs=10, callbacks=[rate], verbose=0).history["loss"]
    assert float(model.optimizer.learning_rate) == pytest.approx(3e-5, rel=0.01)
    assert losses[-1] < losses[0]

    changed = {
        name
        for name, weights in before.items()
        if any((a != b).any() for a, b in zip(weights, backbone.get_layer(name).get_weights(), strict=True))
    }
    assert changed == {"wide", "last"}

    features = upper.predict_on_batch(crossing)
    tuned = finetuning.tuned_head(model, head, np.arange(3), odds=0.5)
    answers = np.asarray(build_classifier(backbone, tuned)(images))[:, 0]
    np.testing.assert_allclose(answers, tuned.predict(features), atol=1e-4)
    assert ((answers >= 0.5) == (CLASSES == "fox")).mean() > 0.9


def test_two_tuners_of_one_seed_learn_alike(images: np.ndarray) -> None:
    def learn(numbers_drawn_before: int) -> list[float]:
        lower, upper = split(small(), "low")
        crossing = pack(lower.predict_on_batch(images.astype(np.float32)))
        batches = Batches([crossing], TARGETS, np.arange(60), finetuning.shapes_across(lower, 16, 16), 15, 0)
        keras.utils.set_random_seed(numbers_drawn_before)
        model = finetuning.build_tuner(upper, 3, **FAST | {"dropout": 0.5})
        keras.utils.set_random_seed(0)
        model.get_layer(finetuning.CLASSES).set_weights([np.ones((20, 3)), np.zeros(3)])
        return model.fit(batches, epochs=2, verbose=0).history["loss"]

    assert learn(1) == learn(2)


def test_what_says_no_more_than_the_frequencies_has_even_odds(tuning, images: np.ndarray) -> None:
    """Of three classes as frequent as each other, one is the animal: the odds in training are one to two."""
    backbone, _, model, head = tuning
    dense = model.get_layer(finetuning.CLASSES)
    dense.set_weights([np.zeros_like(weights) for weights in dense.get_weights()])
    tuned = finetuning.tuned_head(model, head, np.arange(3), odds=0.5)
    assert tuned.predict(features_of(backbone, images)) == pytest.approx(0.5)
