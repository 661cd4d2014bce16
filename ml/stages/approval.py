"""Approval: what a person is shown before a new champion is made, and what the person said."""

import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
import pandas as pd

from ml.analysis.classification import THRESHOLD
from ml.data.signature import caveat
from ml.results import StageResult
from ml.stages.decide import AGAINST_CHAMPION
from ml.stages.job import Job

FLIPS_SHOWN = 15
BYTES_A_PARAMETER = 4
MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&-])")
NUMBERS = {
    "cv_accuracy_mean": (
        "accuracy on balanced draws, out of fold",
        "{cv_accuracy_mean:.1%} ({cv_accuracy_low:.1%} to {cv_accuracy_high:.1%})",
    ),
    "selected_accuracy": ("accuracy, corrected for the choice among candidates", "{selected_accuracy:.1%}"),
    "cv_roc_auc_mean": ("ROC-AUC", "{cv_roc_auc_mean:.4f}"),
    "unseen_false_alarms": (
        "animals that no folder holds, called the animal",
        "{unseen_false_alarms:.1%} ({unseen_false_alarms_low:.1%} to {unseen_false_alarms_high:.1%})",
    ),
    "cv_ece": ("calibration error", "{cv_ece:.4f}"),
    "million_multiply_adds": ("million multiply-adds a photo", "{million_multiply_adds:,.4g}"),
    "milliseconds_a_photo": ("milliseconds a photo, as measured then", "{milliseconds_a_photo:,.3g}"),
    "megabytes": ("megabytes of weights", "{megabytes:,.3g}"),
}


@dataclass(frozen=True)
class Answer:
    """What was said to the question whether the candidate shall become champion."""

    approved: bool
    by: str
    """The person's name; empty if nobody answered in time."""
    at: datetime
    note: str = ""

    def __str__(self) -> str:
        at = f"{self.at:%Y-%m-%d %H:%M %Z}".strip()
        if not self.by:
            return f"Nobody had approved it until {at}."
        said = f"{'Approved' if self.approved else 'Rejected'} by {self.by}, {at}"
        return f"{said}: \u201c{self.note}\u201d." if self.note else f"{said}."

    def tags(self) -> dict[str, str]:
        """Return who said what and when, for MLflow."""
        answer = "none" if not self.by else "approved" if self.approved else "rejected"
        return {"answer": answer, "answered_by": self.by, "answered_at": self.at.isoformat(), "note": self.note}


def question(job: Job, comparison: StageResult, decided: StageResult) -> str:
    """Return the question in Markdown: champion and candidate side by side, the photos whose verdict flips, links."""
    (candidate,) = comparison.candidates
    champion = job.tracker.champion(job.classifier_name)
    ours, theirs = _metrics(comparison.metrics, candidate.complexity), {}
    if champion:
        metrics = job.tracker.client.get_run(champion.run_id).data.metrics
        theirs = _metrics(metrics, float(champion.tags["complexity"]))
    links = {"this run": job.parent, "all candidates": comparison.run_id, "the meeting": decided.run_id}
    if champion:
        links["the champion's"] = champion.run_id
    return _template().render(
        animal=job.animal,
        candidate=candidate.name,
        champion=champion,
        why=decided.summary,
        caveat=caveat(comparison.metrics.get("n_drawings", 0), comparison.metrics["n_photos"]),
        rows=[(label, *(_shown(one, name, form) for one in (theirs, ours))) for name, (label, form) in NUMBERS.items()],
        flips=_flips(job.tracker.read_table(decided.run_id, AGAINST_CHAMPION)) if champion else {},
        shown=FLIPS_SHOWN,
        links={text: job.tracker.run_url(run_id) for text, run_id in links.items()},
    )


def _metrics(metrics: dict[str, float], complexity: float) -> dict[str, float]:
    """Return the metrics with those of `NUMBERS` that follow from others."""
    size = {"megabytes": metrics["million_parameters"] * BYTES_A_PARAMETER} if "million_parameters" in metrics else {}
    return metrics | {"million_multiply_adds": complexity} | size


def _shown(metrics: dict[str, float], name: str, form: str) -> str:
    if not metrics:
        return ""
    return form.format_map(metrics) if name in metrics else "not measured"


def _flips(both: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the photos on which the two disagree, by who is right, the clearest change first."""
    change = (both.probability - both.champion).abs()
    both = both.loc[change.sort_values(ascending=False).index]
    right, was_right = ((both[name] >= THRESHOLD) == (both.label == 1) for name in ("probability", "champion"))
    flips = {"Newly wrong": ~right & was_right, "Newly right": right & ~was_right}
    return {heading: both[chosen].to_dict("records") for heading, chosen in flips.items()}  # type: ignore[misc]


def _template() -> jinja2.Template:
    text = resources.files("ml").joinpath("templates/approval.md").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # no HTML: `plain` escapes what is no markup
    environment.filters["plain"] = _plain
    return environment.from_string(text)


def _plain(text: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return MARKUP.sub(r"\\\1", " ".join(str(text).split()))
