import numpy as np

from ml.models.histogram import LEVELS, colour_histogram, fit_histogram_classifier


def test_a_histogram_counts_colours_and_not_places() -> None:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (20, 30, 3), np.uint8)
    histogram = colour_histogram(photo)
    assert histogram.shape == (LEVELS**3,)
    assert np.isclose((histogram**2).sum(), 1)
    assert np.allclose(colour_histogram(random.permutation(photo.reshape(-1, 3)).reshape(30, 20, 3)), histogram)
    assert colour_histogram(np.full((4, 4, 3), 255, np.uint8))[-1] == 1


def test_tells_reddish_photos_from_others_and_says_so_around_one_half() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2 == 1
    photos = random.integers(0, 160, (60, 8, 8, 3), np.uint8)
    photos[labels, ..., 0] += 70
    histograms = np.stack([colour_histogram(photo) for photo in photos])
    machine = fit_histogram_classifier(histograms[:40], labels[:40], np.arange(40), seed=0)
    answers = machine.predict(histograms[40:])
    assert answers.dtype == np.float32
    assert ((answers >= 0.5) == labels[40:]).mean() >= 0.9
    assert np.array_equal(
        answers, fit_histogram_classifier(histograms[:40], labels[:40], np.arange(40), 0).predict(histograms[40:])
    )
