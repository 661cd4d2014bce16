"""Maps of where a network looks: from the canvas that it sees to the photo that a person sees."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
RIM = 0.05


def photo_box(canvas: tuple[int, int], photo: tuple[int, int], padded: bool) -> tuple[int, int, int, int]:
    """Where a photo lies on the canvas that it was fitted into: left, top, right, bottom, in pixels of the canvas.

    Both sizes are (height, width). A photo that is not `padded` (kept in shape, in the middle) is stretched over all.
    Sizes are rounded as `PIL.ImageOps.pad` rounds them.
    """
    (height, width), (photo_height, photo_width) = canvas, photo
    shown_height, shown_width = height, width
    if padded and photo_width * height > width * photo_height:
        shown_height = round(photo_height / photo_width * width)
    elif padded:
        shown_width = round(photo_width / photo_height * height)
    left, top = round((width - shown_width) / 2), round((height - shown_height) / 2)
    return left, top, left + shown_width, top + shown_height


def on_photo(values: Floats, photo: tuple[int, int], padded: bool, smooth: bool = True) -> Floats:
    """A map of a canvas, float32 [h, w], as it lies on the photo of this (height, width): float32 [height, width]."""
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    box = photo_box(values.shape, photo, padded)  # type: ignore[arg-type]
    return np.asarray(Image.fromarray(values).resize(photo[::-1], method, box=box))


def share_on_rim(heat: Floats, photo: tuple[int, int], padded: bool) -> tuple[float, float]:
    """Share of the heat, float32 [H, W], on the padding and on the outer 5 % of the photo at each side, 0 to 1.

    The second number is the share of the area that this is: what heat without preference, or none at all, has there.
    """
    height, width = heat.shape
    left, top, right, bottom = photo_box((height, width), photo, padded)
    x, y = RIM * (right - left), RIM * (bottom - top)
    inside = heat[round(top + y) : round(bottom - y), round(left + x) : round(right - x)]
    area, total = 1 - inside.size / heat.size, float(heat.sum())
    return 1 - float(inside.sum()) / total if total else area, area
