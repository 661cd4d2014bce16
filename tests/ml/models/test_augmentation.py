from typing import get_args

import keras
import numpy as np
import pytest

from ml.models.augmentation import BLENDS, CHANGES, Batches, change_layers, samples
from ml.params.retrain import AugmentationName

SIDE = 16


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Photos with something to see in them: random blocks of colour."""
    blocks = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    return blocks.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)


def test_every_name_of_the_form_is_known() -> None:
    assert set(get_args(AugmentationName)) == {*CHANGES, *BLENDS}


@pytest.mark.parametrize("name", [*CHANGES, *BLENDS])
def test_every_augmentation_changes_photos_anew_and_is_reproducible(name: str, photos: np.ndarray) -> None:
    seen = samples(photos, [name], 3, seed=5)

    assert seen.shape == (3, *photos.shape)
    assert seen.dtype == np.uint8
    assert not np.array_equal(seen[0], photos)
    assert not (np.array_equal(seen[0], seen[1]) and np.array_equal(seen[1], seen[2]))
    np.testing.assert_array_equal(seen, samples(photos, [name], 3, seed=5))


@pytest.mark.parametrize("name", CHANGES)
def test_changes_stay_in_range_and_rest_when_asked(name: str, photos: np.ndarray) -> None:
    model = keras.Sequential([keras.Input(photos.shape[1:], dtype="uint8"), *change_layers([name], 0)])
    trained = np.concatenate([model(photos, training=True) for _ in range(4)])

    assert trained.min() >= 0
    assert trained.max() <= 255
    np.testing.assert_array_equal(model.predict(photos, verbose=0), photos)


def test_names_come_in_one_order() -> None:
    layers = [type(layer).__name__ for layer in change_layers(["brightness", "mixup", "mirror"], 0)]
    assert layers == ["Rescaling", "RandomFlip", "RandomBrightness", "ReLU"]
    assert change_layers(["mixup"], 0) == []


def test_an_epoch_shows_every_photo_so_many_times(photos: np.ndarray) -> None:
    targets = np.eye(8, dtype=np.float32)
    data = Batches(photos, targets, ["mirror"], copies=3, batch_size=5, seed=0)
    epochs = [list(data) for _ in range(2)]

    for epoch in epochs:
        images, truth = (np.concatenate(part) for part in zip(*epoch, strict=True))
        assert [len(batch) for batch, _ in epoch] == [5, 5, 5, 5, 4]
        assert images.dtype == np.uint8
        for photo, target in zip(photos, targets, strict=True):
            found = (images == photo).all(axis=(1, 2, 3))
            assert found.sum() == 3
            assert (truth[found] == target).all()
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])


@pytest.mark.parametrize("name", BLENDS)
def test_blends_mix_labels_as_they_mix_photos(name: str) -> None:
    """Black is 0 and white is 1, so the mean of a blended photo is its label."""
    photos = np.repeat(np.array([0, 255] * 8, np.uint8), SIDE * SIDE * 3).reshape(16, SIDE, SIDE, 3)
    targets = np.array([0, 1] * 8, np.float32)[:, None]
    ((images, labels),) = Batches(photos, targets, [name], copies=1, batch_size=16, seed=1)

    truth = labels[:, 0]
    assert ((truth > 0.01) & (truth < 0.99)).any()
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)) / 255, truth, atol=0.08)
