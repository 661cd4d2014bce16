"""What the Menagerie page shows, as values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from menagerie.store import Run
from ml.progress import Progress

CROSS_VALIDATED = ("cv_accuracy_mean", "cv_accuracy_low", "cv_accuracy_high")
CORRECTED = ("selected_accuracy", "selected_accuracy_low", "selected_accuracy_high")
"""The metrics of an accuracy, and of that which is corrected for the choice among candidates."""
AT = "false_alarms_at_"
"""What the metrics of false alarms at a sensitivity begin with; it follows in percent."""
UNSEEN = ("unseen_false_alarms", "unseen_false_alarms_low", "unseen_false_alarms_high")
"""The metrics of how often an animal that no folder holds is called the animal."""


@dataclass(frozen=True)
class Accuracy:
    """An accuracy, or another share, with its 95 % interval, from 0 to 1."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, run: Run, names: Sequence[str] = CROSS_VALIDATED) -> "Accuracy | None":
        numbers = [run.metrics.get(name) for name in names]
        return None if None in numbers else cls(*numbers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Champion:
    """The version that answers for an animal."""

    version: str
    since: datetime
    tags: dict[str, str]
    run: Run | None
    """The promotion that it came from."""

    @property
    def accuracy(self) -> Accuracy | None:
        return Accuracy.of(self.run) if self.run else None

    @property
    def expected(self) -> Accuracy | None:
        return Accuracy.of(self.run, CORRECTED) if self.run else None

    @property
    def unseen(self) -> Accuracy | None:
        return Accuracy.of(self.run, UNSEEN) if self.run else None

    @property
    def false_alarms(self) -> list[tuple[int, float, float | None]]:
        """Sensitivities in percent, and at each the share of known and of unknown other animals called the animal."""
        found = self.run.metrics if self.run else {}
        sensitivities = [int(name.removeprefix(AT)) for name in found if name.startswith(AT)]
        return [(each, found[f"{AT}{each}"], found.get(f"unseen_{AT}{each}")) for each in sorted(sensitivities)]


@dataclass(frozen=True)
class Validation:
    """The last photos that were accepted."""

    run: Run
    stage: Run
    """Its stage, which has the Data Docs."""

    @property
    def counts(self) -> dict[str, int]:
        """`n_photos`, `n_positives`, `n_left_out`, `n_holdout`"""
        return {name: int(value) for name, value in self.stage.metrics.items() if name.startswith("n_")}


@dataclass(frozen=True)
class Failure:
    """The last DAG run that failed."""

    run: Run
    reasons: list[str]
    mended: bool
    """Whether the same DAG has ended well since."""


@dataclass(frozen=True)
class Picture:
    """A PNG in `plots` of a run; `at` changes when it is drawn again."""

    name: str
    run: str
    at: int


@dataclass(frozen=True)
class Generation:
    """A GAN that was trained, with what it draws first among its pictures."""

    run: Run
    """Its DAG run."""
    trained: Run
    scored: Run | None
    pictures: list[Picture]


@dataclass(frozen=True)
class AnimalView:
    """Everything that the page says of one animal."""

    name: str
    experiment: str = ""
    champion: Champion | None = None
    history: list[Run] = field(default_factory=list)
    """The retrainings that ended well, the newest first."""
    decision: str = ""
    photos: Validation | None = None
    failures: list[Failure] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    """The newest first."""
    is_untrained: bool = False
    """Whether no retraining was started on the accepted photos, as happens while the DAG is paused."""


@dataclass(frozen=True)
class Work:
    """A DAG run that has not ended, and what it is at."""

    animal: str
    """Whose photos it works on; empty if on others."""
    run: Run
    open: list[tuple[Run, Progress | None]]
    """Its stages that run now, and how far they are, if they tell."""
    waits: bool = False
    """Whether a person is asked if its model may become champion."""


@dataclass(frozen=True)
class Scoring:
    """How photos were scored last."""

    run: Run
    found: dict[str, int]
    """How many photos of each animal there were."""

    @property
    def drift(self) -> str:
        """In words, if the photos have drifted."""
        return self.run.tag("drift") if self.run.metrics.get("drift") else ""

    @property
    def drift_unmeasured(self) -> str:
        """In words, if it isn't known whether they have."""
        return "" if "drift" in self.run.metrics else self.run.tag("drift")


class Overview(NamedTuple):
    """Everything that the page says."""

    animals: list[AnimalView]
    works: list[Work]
    scoring: Scoring | None
    scan: Run | None
    """The last reading of the photos, for all animals."""
