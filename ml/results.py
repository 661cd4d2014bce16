"""What a stage is told and what it returns: plain values that travel through Airflow's XCom and MLflow as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class DagRun:
    """What an Airflow DAG run is called, for the tags of its MLflow run."""

    dag_id: str
    run_id: str
    url: str = ""


@dataclass(frozen=True)
class Candidate:
    """A model that a stage proposes, judged out of fold."""

    name: str
    complexity: float
    """Multiply-adds for one photo, in millions: the order of simplicity."""
    accuracy: float
    """`cv_accuracy_mean`, from 0 to 1."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the stage needs to fit the same model again, on all folds."""


@dataclass(frozen=True)
class StageResult:
    """What one stage found, and where MLflow keeps it."""

    stage: str
    animal: str
    digest: str
    """The dataset version that it was computed on."""
    run_id: str
    metrics: dict[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    summary: str = ""
    """One sentence for a person."""
    reused: bool = False
    """True where an earlier run had done the same work already."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StageResult":
        candidates = tuple(Candidate(**candidate) for candidate in values["candidates"])
        return cls(**{**values, "candidates": candidates})
