"""A pen that draws tubes, discs and blobs: the shapes that the sample drawings are made of.

A tube is a spline with a half-width at each knot: a leg, a trunk, a body and a face are tubes, and stripes
and spots are placed on a tube's skin by its own coordinates (along, across). Positions are complex numbers
(x right, y down), so that to move, scale and turn a part is one multiplication and one addition.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, ...]  # red, green, blue and, for what shines through, alpha; 0..255
Skin = Callable[..., Any]  # (along 0..1, across -1..1), numbers or arrays -> places


class Pen:
    """Draws on an image after z -> scale * z + origin, both complex."""

    def __init__(self, image: Image.Image, scale: complex = 1, origin: complex = 0) -> None:
        self.image, self.scale, self.origin = image, scale, origin
        self.ink = ImageDraw.Draw(image, "RGBA")

    def at(self, place: complex, scale: float = 1, turn: float = 0) -> "Pen":
        """A pen whose origin is `place`, enlarged by `scale` and turned clockwise by `turn` radians."""
        return Pen(self.image, self.scale * scale * np.exp(1j * turn), self.origin + self.scale * place)

    def blob(self, outline: np.ndarray, colour: Colour) -> None:
        """A polygon with complex corners."""
        points = np.ascontiguousarray(outline * self.scale + self.origin)
        self.ink.polygon(points.view(float).tolist(), fill=colour)

    def disc(self, place: complex, rx: float, colour: Colour, ry: float = 0, turn: float = 0) -> None:
        """An ellipse turned by `turn` radians; a circle where `ry` is 0."""
        angle = np.linspace(0, 2 * np.pi, 28)
        ellipse = rx * np.cos(angle) + 1j * (ry or rx) * np.sin(angle)
        self.blob(place + np.exp(1j * turn) * ellipse, colour)

    def tube(self, colour: Colour, *knots: Sequence[float]) -> Skin:
        """Draws a tube through knots (x, y, half-width) and returns its skin."""
        curve = _spline(np.array(knots, float))
        spine, width = curve[:, 0] + 1j * curve[:, 1], np.maximum(curve[:, 2], 0.004)
        tangent = np.gradient(spine)
        side = 1j * tangent / np.abs(tangent) * width
        self.blob(np.concatenate([spine - side, (spine + side)[::-1]]), colour)
        for end in (0, -1):
            self.disc(spine[end], width[end], colour)
        steps = np.linspace(0, 1, len(spine))
        return lambda along, across: np.interp(along, steps, spine) + across * np.interp(along, steps, side)

    @contextmanager
    def layer(self) -> Iterator["Pen"]:
        """A pen with the same scale on a sheet of its own, laid over the image with soft light from above."""
        sheet = Image.new("RGBA", self.image.size)
        yield Pen(sheet, self.scale, self.origin)
        reach = max(2, round(abs(self.scale) * 0.07))
        left, top, right, bottom = sheet.getbbox() or (0, 0, 1, 1)
        left, top = max(0, left - reach), max(0, top - reach)
        sheet = sheet.crop((left, top, min(sheet.width, right + reach), min(sheet.height, bottom + reach)))
        alpha = sheet.getchannel("A")
        soft = alpha.filter(ImageFilter.BoxBlur(reach)).filter(ImageFilter.BoxBlur(reach / 2))
        height = np.pad(np.asarray(soft, np.float32), reach, mode="edge")
        slope = height[2 * reach :, reach:-reach] - height[: -2 * reach, reach:-reach]
        shaded = np.asarray(sheet.convert("RGB"), np.float32) * (1 + slope[..., None] / 600)
        self.image.paste(Image.fromarray(shaded.clip(0, 255).astype(np.uint8)), (left, top), mask=alpha)


def _spline(knots: np.ndarray, samples: int = 40) -> np.ndarray:
    """Cubic Hermite curve through the knots, tangents by finite differences (Catmull and Rom 1974)."""
    slopes = np.gradient(knots, axis=0)
    time = np.linspace(0, len(knots) - 1, samples)
    i = np.minimum(time.astype(int), len(knots) - 2)
    u = (time - i)[:, None]
    rise = u * u * (3 - 2 * u)
    between = (1 - rise) * knots[i] + rise * knots[i + 1]
    curve: np.ndarray = between + u * (1 - u) * ((1 - u) * slopes[i] - u * slopes[i + 1])
    return curve


def tint(colour: Colour, factor: float) -> Colour:
    """The colour made lighter (factor above 1) or darker."""
    return tuple(int(min(255, channel * factor)) for channel in colour)
