"""Views of a photo to train on: the photo, its mirror image, and windows of it. The same ones whenever they are asked
for, so that what a frozen network makes of them can be kept."""

import numpy as np

PLAIN, MIRROR = 0, 1

AREA = (0.5, 1.0)
"""Of a window, as a share of the photo's."""
STRETCH = 0.15
"""Most that the logarithm of a window's shape differs from that of the photo's."""


def view(photo: np.ndarray, number: int, sha256: str) -> np.ndarray:
    """Return view `number` of a photo, uint8 [H, W, 3] -> uint8 [h, w, 3] with h <= H and w <= W.

    Number 0 is the photo, 1 its mirror image; each further number a window of random size and place, mirrored or not,
    which the photo's `sha256` and the number settle.
    """
    if number == PLAIN:
        return photo
    if number == MIRROR:
        return np.ascontiguousarray(photo[:, ::-1])
    random = np.random.default_rng([number, int(sha256[:16], 16)])
    height, width = photo.shape[:2]
    side, shape = np.sqrt(random.uniform(*AREA)), np.exp(random.uniform(-STRETCH, STRETCH) / 2)
    h, w = min(height, round(height * side * shape)), min(width, round(width * side / shape))
    top, left = random.integers(height - h + 1), random.integers(width - w + 1)
    window = photo[top : top + h, left : left + w]
    return np.ascontiguousarray(window[:, ::-1] if random.random() < 0.5 else window)
