"""The report of a DAG run: one self-contained page with every stage's sentence, numbers and pictures."""

import base64
import html
import io
import logging
import math
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from ml.data import manifest
from ml.data.signature import caveat
from ml.params import GanParams, RetrainParams
from ml.results import StageResult
from ml.stages import failure
from ml.stages.evaluation import BY_GROUP, OPERATING_POINTS, UNSEEN_CLASSES
from ml.stages.job import Job, P, animal_named
from ml.stages.prepare import champion_of

COMPARE, DECIDE, PROMOTE = "compare", "decide", "promote"  # importing those stages would take TensorFlow along
SCORE, HELPS, PUBLISH = "score", "helps", "publish"
RETRAINING = {
    "explore": "The photos",
    "floor": "What colours alone tell",
    "baseline": "A network of one convolution",
    "tune": "The search for a better one",
    "regularise": "Regularised",
    "augment": "Augmented",
    "classes": "Told every class",
    "transfer": "Pretrained",
    "finetune": "Fine-tuned",
    "average": "Several together",
    COMPARE: "The choice",
    DECIDE: "The meeting with the champion",
    "explain": "Inside",
    PROMOTE: "The champion",
    "cross": "The champions on each other's photos",
}
DRAWING = {
    "crops": "The photos, cut",
    "gan": "The generator",
    SCORE: "What it draws",
    HELPS: "Does it help the classifier?",
    PUBLISH: "The generator that is champion",
}
HEADINGS = RETRAINING | DRAWING
CONCLUDE = (COMPARE, PROMOTE, SCORE, HELPS, PUBLISH)
"""Whose sentences stand above, and whose numbers are the run's, but for those of the comparison."""
NOTES = {
    SCORE: "A hit rate says what a classifier takes a picture for, not how good the picture is: colour and texture "
    "may be enough, and so is one good picture drawn again and again. So read it beside those of held-out photos and "
    "of other animals, hold it against KID (how far the pictures as a whole are from the held-out photos: the less, "
    "the better) and diversity, and look at the pictures. The champion has learnt from the held-out photos, the judge "
    "has not; by KID to these photos the step was chosen at which the generator was taken. A champion that recognises "
    "few of these photos, cut out and small as they are, can say nothing about pictures of that size."
}
SHOWN = {"learning_curves", "confusion_matrix", "tsne", "search", "regularisation", "augmented_photos"} | {
    "cost", "grad_cam", "feature_maps", "filters", "against_champion", "cross_animals",
} | {"crops", "samples", "ten_pictures", "best_and_worst"}  # fmt: skip
"""Pictures to be seen at once; the others are folded away, and that of all candidates stands above."""
NUMBERS = {
    "cv_accuracy_mean": "accuracy",
    "cv_accuracy_std": "± over folds",
    "cv_accuracy_low": "95 % from",
    "cv_accuracy_high": "to",
    "cv_roc_auc_mean": "ROC-AUC",
    "cv_ece": "calibration error",
    "cv_ece_by_chance": "by chance",
    "train_accuracy_mean": "accuracy in training",
    "cv_all_roc_auc": "ROC-AUC, all",
    "cv_all_average_precision": "average precision, all",
    "cv_all_balanced_accuracy": "balanced accuracy, all",
    "unseen_auc": "ROC-AUC, unseen classes",
    "unseen_false_alarms": "false alarms, unseen classes",
}
COURSE = {
    "course_accuracy_mean": "accuracy",
    "course_accuracy_std": "± over folds",
    "course_accuracy_low": "95 % from",
    "course_accuracy_high": "to",
    "course_roc_auc_mean": "ROC-AUC",
    "course_ece": "calibration error",
    "million_multiply_adds": "million multiply-adds",
    "million_parameters": "million parameters",
    "milliseconds_a_photo": "milliseconds a photo",
}
REGULARISED = ("cv_accuracy_mean", "cv_accuracy_std", "cv_accuracy_low", "cv_accuracy_high", "train_accuracy_mean")
JUDGED = {
    "n": "number",
    "hit_rate": "champion: hit rate",
    "hit_rate_judge": "judge: hit rate",
    "kid": "KID",
    "kid_low": "KID, 95 % from",
    "kid_high": "KID, to",
}
WORST = {
    BY_GROUP: "Errors where the model had seen nothing of the place, the worst of {n} groups:",
    UNSEEN_CLASSES: "Photos called {animal} by a model that was trained without their class, as it is with an animal "
    "that no folder holds; the worst of {n} classes:",
}
"""What the tables of a stage say of which only the first rows are shown."""
WORST_COLUMNS = {
    "n": "number",
    "error_rate": "wrong",
    "error_low": "95 % from",
    "error_high": "to",
    "false_alarms": "false alarms",
    "low": "95 % from",
    "high": "to",
}
WORST_SHOWN = 8
OPERATING = {
    "sensitivity": ("of 100 of the animal", 100),
    "false_alarms": ("of 1,000 of other animals in training", 1000),
    "unseen_false_alarms": ("of 1,000 of animals never seen", 1000),
}
"""The columns of the table of operating points, and of how many photos they are."""
WEBP_QUALITY = 85

log = logging.getLogger(__name__)


def run(job: Job[P], results: Sequence[StageResult]) -> None:
    """Write `report.html` from what the stages found, and close the DAG run's MLflow run.

    The MLflow run ends FAILED, with the reasons, if a stage is missing; and so do the runs that killed tasks left open.
    """
    done = {result.stage.split()[0] for result in results}
    missing = [stage for stage in _expected(job.params) if stage not in done]
    tracker = job.tracker
    table = manifest.load(job.settings.datasets / job.animal, job.digest)
    page = _template().render(
        animal=job.animal,
        digest=job.digest,
        params=job.params.model_dump(),
        counts=_counts(table, job.animal),
        caveat=_caveat(table),
        missing=missing,
        conclusion=[result.summary for result in results if result.stage in CONCLUDE],
        overview=_overview(job, results),
        tables=_tables(job, results),
        stages=[_section(job, result) for result in results],
    )
    tracker.client.log_text(job.parent, page, "report.html")
    last = [result for result in results if result.stage in CONCLUDE and result.stage != COMPARE]
    final = {name: value for result in last for name, value in result.metrics.items()}
    tracker.log_metrics(job.parent, final)
    if not final.get("unanswered"):  # else the next run asks again, though nothing has changed
        tracker.tag(job.parent, "champion", champion_of(job))
    if missing:
        failure.close(tracker, job.parent, f"missing: {', '.join(missing)}")
    else:
        tracker.close_run(job.parent, succeeded=True)
    log.info("report: %s, artifact report.html", tracker.run_url(job.parent))


def _expected(params: RetrainParams | GanParams) -> list[str]:
    """Return the stages that these choices ask for."""
    if isinstance(params, GanParams):
        return list(DRAWING)
    unwanted = {
        "tune": params.tune_mode == "off",
        "regularise": params.tune_mode == "off" or params.regularise == "no",
        "augment": params.tune_mode == "off" or not params.augment_copies,
        "classes": params.tune_mode == "off" or not params.class_epochs,
        "finetune": not params.finetune_epochs,
        "average": True,  # it takes two networks that have their weights
    }
    return [stage for stage in RETRAINING if not unwanted.get(stage)]


def _section(job: Job[P], result: StageResult) -> dict[str, Any]:
    pictures = job.tracker.pictures(result.run_id)
    shown = {name: _webp(picture) for name, picture in pictures.items() if name != "candidates"}
    stage, *which = result.stage.split(maxsplit=1)
    return {
        "heading": ": ".join([HEADINGS.get(stage, stage), *which]),
        "summary": result.summary,
        "reused": result.reused,
        "url": job.tracker.run_url(result.run_id),
        "table": TABLES[stage](job, result) if stage in TABLES else _worst(job, result),
        "note": NOTES.get(stage, ""),
        "pictures": {name.replace("_", " "): picture for name, picture in shown.items() if name in SHOWN},
        "folded": {name.replace("_", " "): picture for name, picture in shown.items() if name not in SHOWN},
    }


def _webp(png: bytes) -> str:
    """Return a picture for a page that carries it: a third of the PNG's size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, format="WEBP", quality=WEBP_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _counts(table: pd.DataFrame, animal: str) -> dict[str, int]:
    used = manifest.used_rows(table)
    return {
        f"photos of {animal}": int(used.label.sum()),
        "photos of other animals": int((used.label == 0).sum()),
        "classes of other animals": int(used[used.label == 0]["class"].nunique()),
        "groups (near-duplicates, bursts, what group ties)": int(used.group.nunique()),
        "groups with more than one photo": int((used.group.value_counts() > 1).sum()),
        "photos left out": len(table) - len(used),
        "photos held out": int((used.fold < 0).sum()),
    }


def _caveat(table: pd.DataFrame) -> str:
    used = manifest.used_rows(table)
    return caveat(used.drawn.sum(), len(used))


def _overview(job: Job[P], results: Sequence[StageResult]) -> str:
    """Return the picture of all candidates, if they were compared."""
    comparison = _comparison(results)
    return _webp(job.tracker.pictures(comparison.run_id)["candidates"]) if comparison else ""


def _tables(job: Job[P], results: Sequence[StageResult]) -> dict[str, str]:
    """Return the candidates' numbers, by what they are numbers of."""
    comparison = _comparison(results)
    if comparison is None:
        return {}
    table = job.tracker.read_table(comparison.run_id, "candidates")
    table["candidate"] += table.optimistic.map({True: " (optimistic)", False: ""})
    tables = {"Candidates": _html(table, NUMBERS)}
    groups = animal_named(job.animal, job.settings).apart
    for name in job.tracker.tables(comparison.run_id):
        if (group := name.removeprefix("without_")) in groups:
            without = job.tracker.read_table(comparison.run_id, name)
            tables[f"Without {without.photos_left_out[0]} photos of {group}"] = _html(without, NUMBERS)
    tables[f"Trained on as many others as photos of {job.animal}; cost"] = _html(table, COURSE)
    return tables


def _judged(job: Job[P], result: StageResult) -> str:
    return _html(job.tracker.read_table(result.run_id, "judged"), JUDGED)


def _regularised(job: Job[P], result: StageResult) -> str:
    table = job.tracker.read_table(result.run_id, "regularisation")
    names = {name: NUMBERS[name] for name in REGULARISED} | {"overfit_gap": "gap", "overfits": "overfits?"}
    return _html(table.rename(columns={"name": "candidate"}), names)


def _worst(job: Job[P], result: StageResult) -> str:
    """Return the sites (or what else `group` names) with the most errors, and the unseen classes with the most alarms.

    Nothing of what the stage hasn't measured.
    """
    return "".join(_worst_of(job, result, name, said) for name, said in WORST.items())


def _worst_of(job: Job[P], result: StageResult, name: str, said: str) -> str:
    if name not in job.tracker.tables(result.run_id):
        return ""
    table = job.tracker.read_table(result.run_id, name)
    renamed: dict[str, str] = {column: new for column, new in WORST_COLUMNS.items() if column in table}
    worst = table.head(WORST_SHOWN)[[table.columns[0], *renamed]].rename(columns=renamed)
    formats = {column: _format(column) for column in renamed.values()}
    shown = worst.to_html(index=False, border=0, formatters=formats, na_rep="")  # type: ignore[arg-type]
    return f"<p>{said.format(animal=html.escape(job.animal), n=len(table))}</p>{shown}"


def _operating(job: Job[P], result: StageResult) -> str:
    """Return what the chosen model finds at which threshold: of 100 photos of the animal, of 1,000 of others."""
    if OPERATING_POINTS not in job.tracker.tables(result.run_id):
        return ""
    table = job.tracker.read_table(result.run_id, OPERATING_POINTS)
    shown = pd.DataFrame({"found from": table.threshold.map("{:.3f}".format)})
    for name, (title, photos) in OPERATING.items():
        if name in table:
            ends = zip(*(photos * table[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
            shown[title] = [f"{middle:.0f} ({low:.0f} to {high:.0f})" for middle, low, high in ends]
    said = f"Photos called {html.escape(job.animal)} out of fold, by the probability from which they are:"
    return f"<p>{said}</p>{shown.to_html(index=False, border=0)}"


TABLES = {"regularise": _regularised, SCORE: _judged, COMPARE: _operating}


def _comparison(results: Sequence[StageResult]) -> StageResult | None:
    return next((result for result in results if result.stage == COMPARE), None)


def _html(table: pd.DataFrame, names: dict[str, str]) -> str:
    shown = table[["candidate", *(name for name in names if name in table)]].rename(columns=names)
    formats = {column: _format(column) for column in shown.columns if column != "candidate"}
    return shown.to_html(index=False, border=0, formatters=formats, na_rep="")  # type: ignore[arg-type]


def _format(column: str) -> Callable[[Any], str]:
    if column == "overfits?":
        return lambda value: "yes" if value else "no"
    if column.startswith("milli"):
        return lambda value: "" if math.isnan(value) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
    if column == "number":
        return "{:,}".format
    if "KID" in column:
        return "{:.3g}".format
    precise = any(word in column for word in ("AUC", "Brier", "error", "chance", "precision"))
    return lambda value: "" if math.isnan(value) else f"{value:.4f}" if precise else f"{value:.1%}"


def _template() -> jinja2.Template:
    text = resources.files("ml").joinpath("templates/report.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
