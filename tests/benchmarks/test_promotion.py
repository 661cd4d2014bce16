"""How often a promotion is wrong, by simulation: photos, flips and losses of which the truth is known.

Run with `-s` to see the tables. The tests of `ml.analysis.meeting` are the same with fewer draws.
"""

import numpy as np
import pytest

from ml.analysis import meeting
from ml.analysis.intervals import Photos
from ml.analysis.selection import Answers

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
SIZES = [(20, 100), (50, 250), (100, 500), (100, 2550), (300, 1500)]
LOSSES = [0.01, 0.015, 0.02, 0.03]
DRAWS = 1500


def photos_of(positives: int, others: int, burst: int) -> Photos:
    """Six classes of others, one of which is half of them; photos in bursts of so many stand or fall together."""
    classes = np.repeat(["fox", "birds", *"abcde"], [positives, others // 2, *[others // 10] * 5])
    return Photos.of(classes == "fox", classes, 2 * (np.arange(len(classes)) // burst) + (classes == "fox"))


def compared(photos: Photos, gained: float, lost: np.ndarray, random: np.random.Generator) -> meeting.PairedComparison:
    drawn = random.random(photos.groups.max() + 1)[photos.groups]
    first = drawn >= gained
    second = np.where(drawn < gained, True, drawn < 1 - lost)
    nothing = np.full(len(drawn), np.nan)
    return meeting.compare(Answers(photos, {"a": first, "b": second}, {"a": nothing, "b": nothing}), "a", "b")


@pytest.mark.parametrize("burst", [1, 4])
@pytest.mark.parametrize("flips", [0.0, 0.02, 0.05])
def test_error_rates_of_the_meeting(burst: int, flips: float) -> None:
    print(
        f"\nflips {flips:.0%}, bursts of {burst}: promoted though so many points worse | better though equal | covers"
    )
    for positives, others in SIZES:
        photos, random = photos_of(positives, others, burst), np.random.default_rng(0)
        promoted, covered = [], []
        for loss in LOSSES:  # all of it among the photos of the animal, where it is hardest to see
            found = [compared(photos, flips, flips + 2 * loss * photos.labels, random) for _ in range(DRAWS)]
            promoted.append(np.mean([meeting.decide(one, 1, 5).promote for one in found]))
            covered.append(np.mean([one.low <= -loss <= one.high for one in found]))
        equal = [compared(photos, flips, np.full(len(photos.labels), flips), random) for _ in range(DRAWS)]
        better = np.mean([one.low > 0 for one in equal])
        shares = " ".join(f"{loss:.1%}: {share:.3f}" for loss, share in zip(LOSSES, promoted, strict=True))
        print(f"{positives:4}+{others:<5} {shares} | {better:.3f} | {min(covered):.3f} to {max(covered):.3f}")
        noise = 3 * np.sqrt(0.025 * 0.975 / DRAWS)
        assert promoted[0] <= 0.025 + noise
        assert better <= 0.025 + noise
        assert min(covered) >= 0.93


@pytest.mark.parametrize(("positives", "others"), SIZES)
def test_twenty_equal_models_in_a_row(positives: int, others: int) -> None:
    photos, risen, disclosed, promotions = photos_of(positives, others, 1), [], [], []
    sides = (photos.labels, ~photos.labels)
    for chain in range(200):
        random = np.random.default_rng(chain)
        first = champion = random.random(len(photos.labels)) < 0.95
        changes = 0
        for _ in range(20):
            challenger = random.random(len(photos.labels)) < 0.95
            nothing = np.full(len(photos.labels), np.nan)
            answers = Answers(photos, {"a": champion, "b": challenger}, {"a": nothing, "b": nothing})
            result = meeting.compare(answers, "a", "b")
            if meeting.decide(result, 4, 5).promote:
                champion, changes = challenger, changes + 1
        promotions.append(changes > 0)
        risen.append(np.mean([np.average(champion[s] * 1.0 - first[s], weights=photos.weights[s]) for s in sides]))
        disclosed.append(meeting.luck_of_many(21, result))
    print(
        f"\n{positives}+{others}: a promotion in {np.mean(promotions):.2f} of the chains, the champion's accuracy up "
        f"by {100 * np.mean(risen):.2f} points; disclosed {100 * np.mean(disclosed):.2f}"
    )
    assert np.mean(risen) <= np.mean(disclosed)
