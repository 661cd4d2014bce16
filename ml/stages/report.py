"""The report of a DAG run: one self-contained page with every stage's sentence, numbers and pictures."""

import base64
import logging
import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from ml.data import manifest
from ml.data.sample import is_drawn
from ml.results import StageResult
from ml.stages.job import Job

COMPARE, PROMOTE = "compare", "promote"  # importing those stages would take TensorFlow along
EXPECTED = ("explore", "floor", "baseline", "transfer", COMPARE, "explain", PROMOTE)
PROTOCOLS = {
    "cv_accuracy_mean": "accuracy",
    "cv_accuracy_std": "± over folds",
    "cv_accuracy_low": "95 % from",
    "cv_accuracy_high": "to",
    "cv_roc_auc_mean": "ROC-AUC",
    "cv_brier": "Brier",
    "cv_ece": "calibration error",
    "train_accuracy_mean": "accuracy in training",
    "cv_all_roc_auc": "ROC-AUC, all",
    "cv_all_average_precision": "average precision, all",
    "cv_all_balanced_accuracy": "balanced accuracy, all",
    "million_multiply_adds": "million multiply-adds",
}

log = logging.getLogger(__name__)


def run(job: Job, results: Sequence[StageResult]) -> None:
    """Write `report.html` from what the stages found, and close the DAG run's MLflow run.

    The MLflow run ends FAILED if a stage is missing.
    """
    done = {result.stage.split()[0] for result in results}
    missing = [stage for stage in EXPECTED if stage not in done]
    tracker = job.tracker
    table = manifest.load(job.settings.datasets / job.animal, job.digest)
    page = _template().render(
        animal=job.animal,
        digest=job.digest,
        params=job.params.model_dump(),
        counts=_counts(table, job.animal),
        drawings=is_drawn(Path(table.root.iloc[0])),
        missing=missing,
        conclusion=[result.summary for result in results if result.stage in (COMPARE, PROMOTE)],
        candidates=_candidates(job, results),
        stages=[
            {
                "name": result.stage,
                "summary": result.summary,
                "reused": result.reused,
                "url": tracker.run_url(result.run_id),
                "pictures": {
                    name.replace("_", " "): base64.b64encode(picture).decode()
                    for name, picture in tracker.pictures(result.run_id).items()
                },
            }
            for result in results
        ],
    )
    tracker.client.log_text(job.parent, page, "report.html")
    final = {name: value for result in results if result.stage == PROMOTE for name, value in result.metrics.items()}
    tracker.log_metrics(job.parent, final)
    tracker.close_run(job.parent, not missing, f"missing: {', '.join(missing)}" if missing else "")
    log.info("report: %s, artifact report.html", tracker.run_url(job.parent))


def _counts(table: pd.DataFrame, animal: str) -> dict[str, int]:
    used = manifest.used_rows(table)
    return {
        f"photos of {animal}": int(used.label.sum()),
        "photos of other animals": int((used.label == 0).sum()),
        "classes of other animals": int(used[used.label == 0]["class"].nunique()),
        "groups of near-duplicates with more than one photo": int((used.group.value_counts() > 1).sum()),
        "photos left out": len(table) - len(used),
        "photos held out": int((used.fold < 0).sum()),
    }


def _candidates(job: Job, results: Sequence[StageResult]) -> str:
    comparison = next((result for result in results if result.stage == COMPARE), None)
    if comparison is None:
        return ""
    table = job.tracker.read_table(comparison.run_id, "candidates")
    shown = table[["candidate", *PROTOCOLS]].rename(columns=PROTOCOLS)
    formats = {column: _format(column) for column in shown.columns if column != "candidate"}
    return shown.to_html(index=False, border=0, formatters=formats, classes="numbers")  # type: ignore[arg-type]


def _format(column: str) -> Callable[[float], str]:
    if column.startswith("million"):
        return lambda value: "" if math.isnan(value) else f"{value:,.0f}"
    precise = any(word in column for word in ("AUC", "Brier", "error", "precision"))
    return "{:.4f}".format if precise else "{:.1%}".format


def _template() -> jinja2.Template:
    text = resources.files("ml").joinpath("templates/report.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
