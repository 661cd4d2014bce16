"""Promotion: the winner meets the champion photo by photo, and takes its place only if it is shown to be no worse."""

import json
import logging
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import animals, figures
from ml.analysis import classification, guards, selection
from ml.analysis.classification import THRESHOLD
from ml.analysis.selection import Decision
from ml.results import Candidate, StageResult
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.final import final_model, predict
from ml.stages.job import Findings, Job, perform
from ml.tracking import CHALLENGER, CHAMPION, RegisteredVersion, StageRun

STAGE = "promote"
GUARDED = 100

log = logging.getLogger(__name__)


def run(job: Job, comparison: StageResult) -> StageResult:
    """Decide, train the winner on all folds, check it, register it, and make it champion; each step after the last.

    The metric `promoted` is 1 if the champion changed. A tie keeps the champion.
    """
    (candidate,) = comparison.candidates

    def work(stage: StageRun, _: Path) -> Findings:
        table = job.tracker.read_table(comparison.run_id, OUT_OF_FOLD)
        stage.table(OUT_OF_FOLD, table)
        champion = job.tracker.champion(job.classifier_name)
        if champion and champion.tags["dag_run"] == job.parent:
            return Findings(f"Version {champion.version} was made champion by this run already.", {"promoted": 1.0})
        decision = _meet(job, stage, candidate, comparison, table, champion)
        metrics = dict(comparison.metrics)
        if not decision.promote:
            stage.tag("decision", decision.reason)
            return Findings(decision.reason, metrics | {"promoted": 0.0})

        model = final_model(job, candidate)
        metrics |= _holdout(job, model, candidate.settings["padding"])
        # A try that died after registering has left its version; it is used, not made again.
        registered = job.tracker.registered_by(job.classifier_name, job.parent) or stage.register(
            model, job.classifier_name, _tags(job, candidate, comparison), _description(job, model, candidate)
        )
        job.tracker.set_alias(registered, CHALLENGER)
        faults = _guard(job, stage, model, candidate.settings["padding"], table)
        reason = (
            f"Not promoted, version {registered.version} stays challenger: {'; '.join(faults)}."
            if faults
            else decision.reason
        )
        stage.tag("decision", reason)
        if faults:
            return Findings(reason, metrics | {"promoted": 0.0})
        stage.log(metrics)
        job.tracker.set_alias(registered, CHAMPION)
        job.tracker.drop_alias(registered, CHALLENGER)
        return Findings(f"{reason} It is version {registered.version}.", metrics | {"promoted": 1.0})

    return perform(job, STAGE, {"candidate": candidate.name, "comparison": comparison.run_id}, work, reuse=False)


def _meet(
    job: Job,
    stage: StageRun,
    candidate: Candidate,
    comparison: StageResult,
    table: pd.DataFrame,
    champion: RegisteredVersion | None,
) -> Decision:
    """Return the decision of the meeting with the champion; without one, being better than chance is enough."""
    if champion is None:
        low = comparison.metrics["cv_accuracy_low"]
        if low <= 0.5:
            return Decision(False, f"Not promoted: no better than chance, the accuracy may be as low as {low:.1%}.")
        return Decision(True, f"Promoted: there was no champion, and the accuracy is at least {low:.1%}.")
    both = _champion_beside(job, table, champion)
    labels = both.label.to_numpy(bool)
    outcome = selection.paired_bootstrap(
        labels,
        (both.champion >= THRESHOLD).to_numpy() == labels,
        (both.probability >= THRESHOLD).to_numpy() == labels,
        np.unique(both.group, return_inverse=True)[1],
        job.params.seed,
    )
    stage.table("against_champion", both)
    stage.log({"difference": outcome.difference, "difference_low": outcome.low, "difference_high": outcome.high})
    figure = figures.paired_comparison(
        outcome.difference,
        outcome.low,
        outcome.high,
        len(outcome.flips_gained),
        len(outcome.flips_lost),
        selection.NOT_WORSE_MARGIN,
        job.animal,
        len(both),
    )
    stage.figure("against_champion", figure)
    return selection.decide(outcome, candidate.complexity, float(champion.tags["complexity"]))


def _champion_beside(job: Job, table: pd.DataFrame, champion: RegisteredVersion) -> pd.DataFrame:
    """Return the photos on which both can be judged fairly, with the champion's probability in the column `champion`.

    Photos that it knew: its own out-of-fold prediction, unless they have changed fold since. New ones: it says itself.
    """
    known = job.tracker.read_table(champion.run_id, OUT_OF_FOLD)[["sha256", "fold", "probability"]]
    both = table.merge(
        known.rename(columns={"probability": "champion"}), on="sha256", how="left", suffixes=("", "_then")
    )
    new = both.champion.isna()
    if new.any():
        log.info("%d photos are new to the champion, version %s: it judges them now", new.sum(), champion.version)
        indices = np.flatnonzero(job.dataset.rows.sha256.isin(both.sha256[new]))
        model, padding = job.tracker.load_model(champion), json.loads(champion.tags["padding"])
        answers = predict(model, job.dataset, indices, padding)
        said = dict(zip(job.dataset.rows.sha256.iloc[indices], answers, strict=True))
        both["champion"] = both.champion.fillna(both.sha256.map(said))
    return both[new | (both.fold == both.fold_then)].drop(columns="fold_then").reset_index(drop=True)


def _holdout(job: Job, model: keras.Model, padding: list[int] | None) -> dict[str, float]:
    held_out = np.flatnonzero(job.dataset.rows.fold < 0)
    if not len(held_out):
        return {}
    labels = job.dataset.rows.label.to_numpy(bool)[held_out]
    return classification.holdout_metrics(labels, predict(model, job.dataset, held_out, padding))


def _guard(job: Job, stage: StageRun, model: keras.Model, padding: list[int] | None, table: pd.DataFrame) -> list[str]:
    """Return what the model fails at: mirrored and re-compressed photos, and the other animals' photos."""
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
    others = [name for name in animals.read(job.settings.animals) if name != job.animal]
    alarms = {
        name: float((mine.probability >= THRESHOLD).mean())
        for name in others
        if len(mine := table[(table["class"] == name) & (table.label == 0)])
    }
    stage.log({f"kept_{name}": share for name, share in kept.items()} | {f"alarms_{n}": s for n, s in alarms.items()})
    return guards.faults(kept, alarms)


def _tags(job: Job, candidate: Candidate, comparison: StageResult) -> dict[str, str]:
    return {
        "candidate": candidate.name,
        "complexity": str(candidate.complexity),
        "dataset": job.digest,
        "dag_run": job.parent,
        "padding": json.dumps(candidate.settings["padding"]),
        "selected_accuracy": f"{comparison.metrics['selected_accuracy']:.4f}",
    }


def _description(job: Job, model: keras.Model, candidate: Candidate) -> str:
    height, width = model.input_shape[1:3]
    padding = candidate.settings["padding"]
    how = (
        f"`ImageOps.pad(photo, ({width}, {height}), Image.Resampling.BICUBIC, color={tuple(padding)})`"
        if padding
        else f"`photo.resize(({width}, {height}), Image.Resampling.BICUBIC)`"
    )
    return (
        f"Is there a {job.animal} in the photo? {candidate.name}, on dataset {job.digest}. Takes uint8 RGB photos "
        f"[N, {height}, {width}, 3], made by {how} of Pillow; returns the probability [N, 1], 0.5 being the threshold "
        f"where {job.animal} and others are equally frequent."
    )
