"""Decision: the chosen candidate meets the champion photo by photo, and is proposed only if it is shown to be no worse.

Nothing is changed here: `promote` does that, after a person has agreed where one is to be asked.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import selection
from ml.analysis.classification import THRESHOLD
from ml.analysis.selection import Decision
from ml.errors import LostError
from ml.results import Candidate, StageResult
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Findings, Job, perform
from ml.tracking import RegisteredVersion, StageRun

STAGE = "decide"
AGAINST_CHAMPION = "against_champion"

log = logging.getLogger(__name__)


def run(job: Job, comparison: StageResult) -> StageResult:
    """Say whether the candidate that `comparison` has chosen is to take the champion's place.

    The metric `proposed` is 1 if it is, and `met_version` is the champion's version, 0 where there is none yet: then
    being better than chance is enough. A tie keeps the champion.
    """
    (candidate,) = comparison.candidates

    def work(stage: StageRun, _: Path) -> Findings:
        champion = job.tracker.champion(job.classifier_name)
        if champion is None:
            decision, numbers = _without_champion(comparison), {"met_version": 0.0}
        elif champion.tags["dag_run"] == job.parent:
            decision = Decision(False, f"version {champion.version} was made champion by this run already.")
            numbers = {"met_version": float(champion.version)}
        else:
            decision, numbers = _meet(job, stage, candidate, comparison, champion)
        return Findings(decision.reason, numbers | {"proposed": float(decision.promote)})

    return perform(job, STAGE, {"candidate": candidate.name, "comparison": comparison.run_id}, work, reuse=False)


def _without_champion(comparison: StageResult) -> Decision:
    low = comparison.metrics["cv_accuracy_low"]
    if low <= 0.5:
        return Decision(False, f"no better than chance, the accuracy may be as low as {low:.1%}.")
    return Decision(True, f"there was no champion, and the accuracy is at least {low:.1%}.")


def _meet(
    job: Job, stage: StageRun, candidate: Candidate, comparison: StageResult, champion: RegisteredVersion
) -> tuple[Decision, dict[str, float]]:
    """Return the decision of the meeting with the champion, and its numbers."""
    both = champion_beside(job, job.tracker.read_table(comparison.run_id, OUT_OF_FOLD), champion)
    labels = both.label.to_numpy(bool)
    outcome = selection.paired_bootstrap(
        labels,
        (both.champion >= THRESHOLD).to_numpy() == labels,
        (both.probability >= THRESHOLD).to_numpy() == labels,
        np.unique(both.group, return_inverse=True)[1],
        job.params.seed,
    )
    stage.table(AGAINST_CHAMPION, both)
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
    stage.figure(AGAINST_CHAMPION, figure)
    decision = selection.decide(outcome, candidate.complexity, champion.complexity)
    return decision, {
        "met_version": float(champion.version),
        "difference": outcome.difference,
        "difference_low": outcome.low,
        "difference_high": outcome.high,
    }


def champion_beside(job: Job, table: pd.DataFrame, champion: RegisteredVersion) -> pd.DataFrame:
    """Return the photos on which both can be judged fairly, with the champion's probability in the column `champion`.

    Photos that it knew: its own out-of-fold prediction, unless they have changed fold since. New ones: it says itself.
    """
    try:
        known = job.tracker.read_table(champion.run_id, OUT_OF_FOLD)[["sha256", "fold", "probability"]]
    except (LostError, KeyError) as error:
        raise LostError(
            f"{champion} can't be compared, as its predictions out of fold are gone: {error} {champion.remedy}"
        ) from error
    both = table.merge(
        known.rename(columns={"probability": "champion"}), on="sha256", how="left", suffixes=("", "_then")
    )
    new = both.champion.isna()
    if new.any():
        from ml.stages.final import predict  # takes TensorFlow along

        log.info("%d photos are new to the champion, version %s: it judges them now", new.sum(), champion.version)
        indices = np.flatnonzero(job.dataset.rows.sha256.isin(both.sha256[new]))
        model, padding = job.tracker.load_model(champion), champion.padding
        answers = predict(model, job.dataset, indices, padding)
        said = dict(zip(job.dataset.rows.sha256.iloc[indices], answers, strict=True))
        both["champion"] = both.champion.fillna(both.sha256.map(said))
    return both[new | (both.fold == both.fold_then)].drop(columns="fold_then").reset_index(drop=True)
