"""Promotion: what `decide` proposes is trained on all folds, checked, registered, and made champion.

Where a person was asked, it is only what was approved.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import animals
from ml.analysis import classification, guards
from ml.analysis.classification import THRESHOLD
from ml.animals import Animal
from ml.data.signature import caveat
from ml.results import Candidate, StageResult
from ml.stages.approval import Answer
from ml.stages.decide import ON_NEW_PHOTOS
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.final import final_model, predict
from ml.stages.job import Findings, Job, perform
from ml.tracking import CHALLENGER, CHAMPION, StageRun

STAGE = "promote"
GUARDED = 100


def run(job: Job, comparison: StageResult, decided: StageResult, answer: Answer | None = None) -> StageResult:
    """Train the winner on all folds, check it, register it, and make it champion; each step after the last.

    `answer` is what a person said, if one was asked. The metric `promoted` is 1 if the champion changed; `unanswered`
    is 1 if nobody said whether it may. The tag `decision` tells it in words.
    """
    (candidate,) = comparison.candidates

    def work(stage: StageRun, _: Path) -> Findings:
        table = job.tracker.read_table(comparison.run_id, OUT_OF_FOLD)
        stage.table(OUT_OF_FOLD, table)
        # The champion's accuracy on photos that came after it is a metric of the DAG run, too: one a retraining.
        new = {name: value for name, value in decided.metrics.items() if name.startswith(ON_NEW_PHOTOS)}
        metrics = comparison.metrics | new | {"promoted": 0.0}
        if answer:
            for name, value in answer.tags().items():
                stage.tag(name, value)
            metrics["unanswered"] = float(not answer.by)
        champion = job.tracker.champion(job.classifier_name)
        if champion and champion.tags["dag_run"] == job.parent:
            said = f"Version {champion.version} was made champion by this run already."
            return Findings(said, metrics | {"promoted": 1.0})
        if objection := _objection(decided, answer, champion.version if champion else "0"):
            stage.tag("decision", f"Not promoted: {objection}")
            return Findings(f"Not promoted: {objection}", metrics)

        model = final_model(job, candidate)
        metrics |= _holdout(job, model, candidate.settings["padding"])
        # A try that died after registering has left its version; it is used, not made again.
        registered = job.tracker.registered_by(job.classifier_name, job.parent) or stage.register(
            model,
            job.classifier_name,
            _tags(job, candidate, comparison),
            _description(job, model, candidate, comparison),
        )
        job.tracker.set_alias(registered, CHALLENGER)
        if faults := _guard(job, stage, model, candidate.settings["padding"], table):
            reason = f"Not promoted, version {registered.version} stays challenger: {'; '.join(faults)}."
            stage.tag("decision", reason)
            return Findings(reason, metrics)
        reason = " ".join(["Promoted:", decided.summary, *([str(answer)] if answer else [])])
        stage.tag("decision", reason)
        stage.log(metrics)
        job.tracker.set_alias(registered, CHAMPION)
        job.tracker.drop_alias(registered, CHALLENGER)
        return Findings(f"{reason} It is version {registered.version}.", metrics | {"promoted": 1.0})

    return perform(job, STAGE, {"candidate": candidate.name, "comparison": comparison.run_id}, work, reuse=False)


def _objection(decided: StageResult, answer: Answer | None, champion: str) -> str | None:
    """Return what speaks against a promotion; `champion` is the version that is champion now, 0 without one."""
    if not decided.metrics["proposed"]:
        return decided.summary
    if answer and not answer.approved:
        return f"{answer} What spoke for it: {decided.summary}"
    if int(champion) != decided.metrics["met_version"]:
        return f"version {champion} became champion since it met version {decided.metrics['met_version']:.0f}."
    return None


def _holdout(job: Job, model: keras.Model, padding: list[int] | None) -> dict[str, float]:
    held_out = np.flatnonzero(job.dataset.rows.fold < 0)
    if not len(held_out):
        return {}
    labels = job.dataset.rows.label.to_numpy(bool)[held_out]
    return classification.holdout_metrics(labels, predict(model, job.dataset, held_out, padding))


def _guard(job: Job, stage: StageRun, model: keras.Model, padding: list[int] | None, table: pd.DataFrame) -> list[str]:
    """Return what the model fails at: mirrored and re-compressed photos, and the other animals' photos.

    The model was trained on the photos that are mirrored and compressed again, so more verdicts stay than of new ones:
    it is a check that nothing is broken, and no measurement. The other animals' photos are judged out of fold.
    """
    rows = job.dataset.training
    (drawn,) = classification.balanced_draws(
        rows.label.to_numpy(bool), rows["class"].to_numpy(str), job.params.seed, draws=1
    )
    sample = rows.index.to_numpy()[np.random.default_rng(job.params.seed).permutation(drawn)[: 2 * GUARDED]]
    plain = predict(model, job.dataset, sample, padding)
    kept = {
        name: guards.verdicts_kept(plain, predict(model, job.dataset, sample, padding, change))
        for name, change in (("mirrored", guards.mirror), ("recompressed", guards.recompress))
    }
    alarms = alarms_by_animal(table, animals.read(job.settings.animals), job.animal)
    stage.log({f"kept_{name}": share for name, share in kept.items()} | {f"alarms_{n}": s for n, s in alarms.items()})
    return guards.faults(kept, alarms)


def alarms_by_animal(table: pd.DataFrame, known: Mapping[str, Animal], own: str) -> dict[str, float]:
    """Return the share of each other animal's photos that are taken for `own`; those without any are left out.

    Photos are another animal's by its own globs: their folder, and so their class, may have any name.
    """
    negatives = table[table.label == 0]
    shares = {}
    for name, animal in known.items():
        mine = negatives[[animal.is_positive(path) for path in negatives.path]]
        if name != own and len(mine):
            shares[name] = float((mine.probability >= THRESHOLD).mean())
    return shares


def _tags(job: Job, candidate: Candidate, comparison: StageResult) -> dict[str, str]:
    return {
        "candidate": candidate.name,
        "complexity": str(candidate.complexity),
        "dataset": job.digest,
        "dag_run": job.parent,
        "padding": json.dumps(candidate.settings["padding"]),
        "selected_accuracy": f"{comparison.metrics['selected_accuracy']:.4f}",
    }


def _description(job: Job, model: keras.Model, candidate: Candidate, comparison: StageResult) -> str:
    height, width = model.input_shape[1:3]
    padding = candidate.settings["padding"]
    how = (
        f"`ImageOps.pad(photo, ({width}, {height}), Image.Resampling.BICUBIC, color={tuple(padding)})`"
        if padding
        else f"`photo.resize(({width}, {height}), Image.Resampling.BICUBIC)`"
    )
    warning = caveat(comparison.metrics.get("n_drawings", 0), comparison.metrics["n_photos"])
    return (f"**{warning}** " if warning else "") + (
        f"Is there {animals.indefinite(job.animal)} in the photo? "
        f"{candidate.name}, on dataset {job.digest}. Takes uint8 RGB photos "
        f"[N, {height}, {width}, 3], made by {how} of Pillow; returns the probability [N, 1], 0.5 being the threshold "
        f"where {job.animal} and others are equally frequent."
    )
