"""The chart of an animal's retrainings: coordinates for an SVG, worked out on the server."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from menagerie.store import Run
from menagerie.views import Accuracy

WIDTH, HEIGHT = 440, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 12, 26
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
LINES = 5


@dataclass(frozen=True)
class Point:
    """A retraining: where its accuracy and the ends of its interval are, in the SVG's units."""

    run: Run
    accuracy: Accuracy
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """What the template draws."""

    points: list[Point]
    """The oldest first."""
    lines: list[tuple[float, str]]
    """Grid lines: where, and what is written beside them."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def chart(runs: Sequence[Run]) -> Chart | None:
    """Return the chart of the runs (the newest first) that know their accuracy, or `None` if none does."""
    known = [(run, accuracy) for run in reversed(runs) if (accuracy := Accuracy.of(run))]
    if not known:
        return None
    lowest, highest = min(a.low for _, a in known), max(a.high for _, a in known)
    step = next((s for s in STEPS if math.ceil(highest / s) - math.floor(lowest / s) < LINES), STEPS[-1])
    first, last = math.floor(lowest / step), max(math.ceil(highest / step), math.floor(lowest / step) + 1)

    def y(value: float) -> float:
        share = (value / step - first) / (last - first)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    room = (WIDTH - LEFT - RIGHT) / len(known)
    points = [
        Point(run, a, round(LEFT + (at + 0.5) * room, 1), y(a.mean), y(a.low), y(a.high))
        for at, (run, a) in enumerate(known)
    ]
    return Chart(points, [(y(at * step), f"{at * step:.0%}") for at in range(first, last + 1)])
