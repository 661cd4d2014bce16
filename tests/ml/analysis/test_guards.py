import numpy as np

from ml.analysis import guards

PHOTO = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def test_mirror_and_recompress_change_a_photo_but_little_of_what_it_shows() -> None:
    assert np.array_equal(guards.mirror(guards.mirror(PHOTO)), PHOTO)
    assert not np.array_equal(guards.mirror(PHOTO), PHOTO)
    again = guards.recompress(np.full((16, 16, 3), 120, np.uint8))
    assert again.shape == (16, 16, 3)
    assert np.abs(again.astype(int) - 120).max() <= 3


def test_verdicts_kept_counts_sides_of_the_threshold() -> None:
    assert guards.verdicts_kept(np.array([0.1, 0.6, 0.9, 0.4]), np.array([0.2, 0.4, 0.8, 0.49])) == 0.75


def test_faults_name_the_check_the_share_and_the_limit() -> None:
    assert guards.faults({"mirrored": 0.9}, {"tiger": 0.1}) == []
    said = guards.faults({"mirrored": 0.5}, {"tiger": 0.4})
    assert said == [
        "only 50% of the verdicts on photos it was trained on stay when they are mirrored; at least 85% are expected",
        "40% of the photos of tiger are taken for it; at most 25% are allowed",
    ]
