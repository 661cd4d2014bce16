"""Decision: the chosen candidate meets the champion photo by photo, and is proposed only if it is shown to be no worse.

Nothing is changed here: `promote` does that, after a person has agreed where one is to be asked.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import meeting
from ml.analysis.classification import THRESHOLD
from ml.analysis.intervals import Photos, accuracy, accuracy_interval
from ml.analysis.meeting import Decision, PairedComparison
from ml.errors import LostError
from ml.results import Candidate, StageResult
from ml.stages import history
from ml.stages.beside import Beside, beside, compared, has_both, without_known
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Findings, Job, perform
from ml.tracking import RegisteredVersion, StageRun

STAGE = "decide"
AGAINST_CHAMPION = "against_champion"
ON_NEW_PHOTOS = "champion_on_new_photos"

log = logging.getLogger(__name__)


def run(job: Job, comparison: StageResult) -> StageResult:
    """Say whether the candidate that `comparison` has chosen is to take the champion's place.

    The metric `proposed` is 1 if it is, and `met_version` is the champion's version, 0 where there is none yet: then
    being better than chance is enough, once corrected for the choice. A tie keeps the champion. `models_compared` is
    how many models have been judged on these photos; `champion_on_new_photos` the champion's accuracy on photos that
    came after it, before any model is trained on them.
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
    low = comparison.metrics["selected_accuracy_low"]  # the best of several is often better than chance by luck
    if low <= 0.5:
        return Decision(False, f"no better than chance, the accuracy may be as low as {low:.1%}.")
    return Decision(True, f"there was no champion, and the accuracy is at least {low:.1%}.")


def _meet(
    job: Job, stage: StageRun, candidate: Candidate, comparison: StageResult, champion: RegisteredVersion
) -> tuple[Decision, dict[str, float]]:
    """Return the decision of the meeting with the champion, and its numbers."""
    table = job.tracker.read_table(comparison.run_id, OUT_OF_FOLD)
    both, left_out, new = champion_beside(job, table, champion)
    stage.table(AGAINST_CHAMPION, both)
    numbers = {"met_version": float(champion.version), "photos_left_out": float(left_out), **_on_new(both[new])}
    if not has_both(both):
        animal = int(both.label.sum())
        return Decision(
            False,
            f"too few photos to tell: the two can be compared fairly on {animal:,} photos of {job.animal} and "
            f"{len(both) - animal:,} of other animals; some of each are needed. {_left_out(left_out)}".rstrip(),
        ), numbers
    outcome = compared(both)
    figure = figures.paired_comparison(
        outcome.difference,
        outcome.low,
        outcome.high,
        len(outcome.flips_gained),
        len(outcome.flips_lost),
        meeting.NOT_WORSE_MARGIN,
        job.animal,
        len(both),
    )
    stage.figure(AGAINST_CHAMPION, figure)
    decision = meeting.decide(outcome, candidate.complexity, champion.complexity, _best_so_far(job, table, champion))
    looks = history.models_compared(job)
    luck = meeting.luck_of_many(looks.models, outcome) if looks.models > 1 else 0.0
    said = [decision.reason, looks.sentence(luck), _left_out(left_out)]
    return Decision(decision.promote, " ".join(filter(None, said))), numbers | {
        "difference": outcome.difference,
        "difference_low": outcome.low,
        "difference_high": outcome.high,
        "models_compared": float(looks.models),
        "luck_of_many": luck,
    }


def _left_out(photos: int) -> str:
    return f"{photos:,} photos were left out: one of the two was trained on near-duplicates of them." if photos else ""


def champion_beside(job: Job, table: pd.DataFrame, champion: RegisteredVersion) -> tuple[pd.DataFrame, int, np.ndarray]:
    """Return the photos on which both can be judged fairly, with the champion's probability in the column `champion`.

    Photos that it knew: its own out-of-fold prediction. New ones: it says itself. With them: how many photos are left
    out (see `ml.stages.beside`), and which are new, bool [N].

    Raises:
        LostError: the champion's out-of-fold predictions are gone or damaged.
    """
    try:
        then = history.out_of_fold(job, champion)
    except LostError as error:
        raise LostError(
            f"{champion} can't be compared, as its predictions out of fold are gone: {error} {champion.remedy}"
        ) from error
    both, left_out = without_known(job, beside(table, then), champion)
    new = both.champion.isna().to_numpy()
    if new.any():
        from ml.stages.final import predict  # takes TensorFlow along

        log.info("%d photos are new to the champion, version %s: it judges them now", new.sum(), champion.version)
        indices = np.flatnonzero(job.dataset.rows.sha256.isin(both.sha256[new]))
        model, padding = job.tracker.load_model(champion), champion.padding
        answers = predict(model, job.dataset, indices, padding)
        said = dict(zip(job.dataset.rows.sha256.iloc[indices], answers, strict=True))
        both["champion"] = both.champion.fillna(both.sha256.map(said))
    return both, left_out, new


def _on_new(photos: pd.DataFrame) -> dict[str, float]:
    """Return the champion's accuracy on photos that are new to it; if all are of one kind, only their number."""
    if photos.empty or not has_both(photos):
        return {f"{ON_NEW_PHOTOS}_n": float(len(photos))}
    judged = Photos.of(photos.label, photos["class"], photos.group)
    correct = ((photos.champion >= THRESHOLD).to_numpy() == judged.labels).astype(float)
    low, high = accuracy_interval(correct, judged)
    found = {"": accuracy(correct, judged), "_low": low, "_high": high, "_n": float(len(photos))}
    return {ON_NEW_PHOTOS + end: value for end, value in found.items()}


def _best_so_far(job: Job, table: pd.DataFrame, champion: RegisteredVersion) -> PairedComparison | None:
    """Return the comparison with the earlier champion that the challenger is most behind, on photos that both knew."""
    found: list[PairedComparison] = []
    for version, then in history.earlier_champions(job, champion):
        both, _ = _known(beside(table, then))
        if has_both(both):
            found.append(compared(both))
        else:
            log.info("version %s, an earlier champion, has too few photos in common to compare with", version)
    return min(found, key=lambda one: one.difference, default=None)


def _known(found: Beside) -> Beside:
    return found._replace(photos=found.photos[found.photos.champion.notna()].reset_index(drop=True))
