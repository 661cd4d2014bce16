"""What a classifier must bear before it may become champion."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

JPEG_QUALITY = 50
FEWEST_KEPT = 0.85
MOST_ALARMS = 0.25


def mirror(photo: np.ndarray) -> np.ndarray:
    """Return the photo, uint8 [H, W, 3], left to right."""
    return photo[:, ::-1]


def recompress(photo: np.ndarray) -> np.ndarray:
    """Return the photo, uint8 [H, W, 3], saved as a JPEG of quality 50 and read again."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


def verdicts_kept(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of photos whose verdict (probability of 0.5 or more) is the same, from 0 to 1."""
    return float(((before >= 0.5) == (after >= 0.5)).mean())


def faults(kept: Mapping[str, float], alarms: Mapping[str, float]) -> list[str]:
    """Return in words which checks fail: `kept` verdicts per change of the photo, false `alarms` per other animal."""
    said = [
        f"only {share:.0%} of the verdicts on photos it was trained on stay when they are {change}; at least "
        f"{FEWEST_KEPT:.0%} are expected"
        for change, share in kept.items()
        if share < FEWEST_KEPT
    ]
    return said + [
        f"{share:.0%} of the photos of {animal} are taken for it; at most {MOST_ALARMS:.0%} are allowed"
        for animal, share in alarms.items()
        if share > MOST_ALARMS
    ]
