"""Explanation: where the winner finds the animal, and what the layers of the network trained from scratch make of it.

Everything is shown on photos of one fold, by models that were fitted without that fold.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import explanation, heat
from ml.analysis.classification import THRESHOLD
from ml.data.splits import HOLDOUT
from ml.results import Candidate, StageResult
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.final import final_model, images_for
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "explain"
SHOWN = 6
MEASURED = 50


def run(job: Job, comparison: StageResult, results: Sequence[StageResult]) -> StageResult:
    """Draw Grad-CAM of the winner, and feature maps and first filters of the network trained from scratch.

    `results` are those of the stages that proposed candidates. Of networks from scratch the most complex one is shown.
    """
    (winner,) = comparison.candidates
    scratch = _from_scratch(results)
    names = {"winner": winner.name, "from_scratch": scratch.name if scratch else None}

    def work(stage: StageRun, _: Path) -> Findings:
        table = job.tracker.read_table(comparison.run_id, OUT_OF_FOLD)
        judged = job.dataset.training.assign(probability=table.probability.to_numpy())
        fold = _worst_fold(judged)
        judged = judged[judged.fold == fold]
        blind = without_fold(job, fold)
        shown = {one.name: one for one in (winner, scratch) if one}
        models = {name: final_model(blind, one) for name, one in shown.items()}

        metrics = _look(job, stage, models[winner.name], winner, judged)
        if scratch:
            _look_inside(job, stage, models[scratch.name], scratch, judged)
        return Findings(
            f"{winner.name}, fitted without fold {fold}, has {metrics['heat_on_rim']:.0%} of its heat for {job.animal} "
            f"on the rim of that fold's photos (the outer 5 % of each side, and the padding), which is "
            f"{metrics['rim_area']:.0%} of the area",
            metrics,
        )

    return perform(job, STAGE, {"comparison": comparison.run_id, **names}, work)


def without_fold(job: Job, fold: int) -> Job:
    """Return the job as if the photos of this fold were held out: what is fitted for it never saw them."""
    rows = job.dataset.rows
    blind = replace(job)
    # A cached property is kept under its name.
    vars(blind)["dataset"] = replace(job.dataset, rows=rows.assign(fold=rows.fold.mask(rows.fold == fold, HOLDOUT)))
    return blind


def _from_scratch(results: Sequence[StageResult]) -> Candidate | None:
    """Return the most complex candidate that has nothing pretrained, neither itself nor as members that vote."""
    pretrained = {"backbone", "members"}
    candidates = [one for result in results for one in result.candidates if not pretrained & one.settings.keys()]
    return max(candidates, key=lambda one: one.complexity, default=None)


def _worst_fold(judged: pd.DataFrame) -> int:
    """Return the fold with the most mistakes, of those with photos of the animal: there is most to see."""
    wrong = (judged.probability >= THRESHOLD) != (judged.label == 1)
    folds = sorted(judged.fold[judged.label == 1].unique())
    return int(max(folds, key=lambda fold: wrong[judged.fold == fold].sum()))


def _look(
    job: Job, stage: StageRun, model: keras.Model, candidate: Candidate, judged: pd.DataFrame
) -> dict[str, float]:
    """Draw what speaks for the animal in photos told right and wrong; return how much of it is on the rim."""
    kinds = _kinds(judged, job.animal)
    mine = judged[judged.label == 1].head(MEASURED)
    seen = pd.concat([*kinds.values(), mine]).index.unique()
    images = images_for(model, job.dataset, seen, candidate.settings["padding"])
    heats = dict(zip(seen, explanation.grad_cam(model, images), strict=True))
    photos = {index: job.dataset.pixels(index) for index in seen}
    padded = candidate.settings["padding"] is not None
    shown = {
        kind: [
            figures.Explained(
                photos[row.Index], heat.on_photo(heats[row.Index], photos[row.Index].shape[:2], padded), caption
            )
            for row, caption in zip(rows.itertuples(), _captions(rows), strict=True)
        ]
        for kind, rows in kinds.items()
    }
    title = (
        f"Where {candidate.name} finds {job.animal}: the brighter a place, the more it speaks for {job.animal} "
        f"(Grad-CAM). The model was fitted without these photos, fold {judged.fold.iloc[0]}."
    )
    stage.figure("grad_cam", figures.grad_cam(shown, title))
    shares = [heat.share_on_rim(heats[index], photos[index].shape[:2], padded) for index in mine.index]
    on_rim, area = np.mean(shares, axis=0)
    return {"heat_on_rim": float(on_rim), "rim_area": float(area)}


def _look_inside(job: Job, stage: StageRun, model: keras.Model, candidate: Candidate, judged: pd.DataFrame) -> None:
    """Draw the first filters, and the feature maps of the first photo of each kind."""
    rows = pd.concat([rows.head(1) for rows in _kinds(judged, job.animal).values()])
    maps = explanation.feature_maps(model, images_for(model, job.dataset, rows.index, candidate.settings["padding"]))
    photos = [job.dataset.pixels(index) for index in rows.index]
    stage.figure(
        "feature_maps",
        figures.feature_maps(
            photos,
            rows["class"].tolist(),
            maps,
            f"What the layers of {candidate.name}, trained from scratch, make of photos that it was not trained on",
            padded=candidate.settings["padding"] is not None,
        ),
    )
    kernels = explanation.first_filters(model)
    size = " × ".join(str(side) for side in kernels.shape[:2])
    title = f"The {kernels.shape[-1]} filters of {candidate.name}'s first convolution, {size} pixels"
    stage.figure("filters", figures.filters(kernels, title))


def _kinds(judged: pd.DataFrame, animal: str) -> dict[str, pd.DataFrame]:
    """Return the photos to show, the most telling first, by what is to be said of them."""
    mine, others = judged[judged.label == 1], judged[judged.label == 0]
    missed, alarms = (mine.probability < THRESHOLD).sum(), (others.probability >= THRESHOLD).sum()
    return {
        f"{animal}, the surest of {len(mine)}": mine.nlargest(SHOWN, "probability"),
        f"{animal}, the least sure: {missed} of {len(mine)} missed": mine.nsmallest(SHOWN, "probability"),
        f"other animals, the most like {animal}: {alarms} of {len(others):,} taken for it": others.nlargest(
            SHOWN, "probability"
        ),
    }


def _captions(rows: pd.DataFrame) -> list[str]:
    return [f"{row['class']}  {row.probability:.2f}\n{row.path}" for _, row in rows.iterrows()]
