"""Does it help? A classifier is trained with generated pictures of the animal among its photos, and without.

The generator has seen the photos of all folds but one, so only that one can judge: a classifier that was given pictures
made of the photos that it is judged on would know them already.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ml.analysis import generative
from ml.analysis.classification import THRESHOLD
from ml.analysis.intervals import Photos, accuracy, difference_interval
from ml.models.head import fit_head
from ml.results import StageResult
from ml.stages import crops, drawn
from ml.stages.crops import HELD_OUT
from ml.stages.features import features
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import StageRun

STAGE = "helps"
BACKBONE = "EfficientNetLite0"
TIMES = (1, 5)
"""How many generated pictures are added for each photo of the animal; the first is what the metrics tell."""


def run(job: GanJob, trained: StageResult) -> StageResult:
    """Judge a linear head on the backbone's features with and without pictures of the generator that `trained` left."""
    choices = {"seed": job.params.seed, "generator": trained.run_id, "crops": crops.key(job), "backbone": BACKBONE}

    def work(stage: StageRun, _: Path) -> Findings:
        rows = job.dataset.training
        labels, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
        groups = np.unique(rows.group, return_inverse=True)[1]
        given = features(job.dataset, rows.index, BACKBONE, job.settings)
        judged = (rows.fold == HELD_OUT).to_numpy()
        learnt, mine = np.flatnonzero(~judged), np.flatnonzero(~judged & labels)

        images = drawn.pictures(drawn.generator(job, trained), max(TIMES) * len(mine), job.params.seed)
        made = drawn.features(images, BACKBONE)
        # The head leaves groups out to choose its penalty: a picture goes with the photo that it is most like.
        like = mine[generative.nearest(made, given[mine]).indices]

        def judge(n: int) -> np.ndarray:
            """Return what a head fitted with `n` pictures says of the photos that judge."""
            places = np.concatenate([learnt, like[:n]])
            head = fit_head(np.concatenate([given[learnt], made[:n]]), classes[places], labels[places], groups[places])
            return head.predict(given[judged])

        photos, without = Photos.of(labels[judged], classes[judged], groups[judged]), judge(0)
        found = [_differs(photos, without, judge(n * len(mine))) for n in TIMES]
        table = pd.DataFrame(found).assign(pictures=[n * len(mine) for n in TIMES])
        stage.table("helps", table)
        metrics = {f"helps_{name}": value for name, value in found[0].items()}
        return Findings(
            _sentence(job.animal, metrics, len(mine), int(labels[judged].sum()), int(judged.sum())), metrics
        )

    return perform(job, STAGE, choices, work)


def _differs(photos: Photos, without: np.ndarray, including: np.ndarray) -> dict[str, float]:
    """Return by how much the balanced accuracy changes, with its 95 % interval, and the ROC-AUC before and after."""
    before, after = (((said >= THRESHOLD) == photos.labels).astype(float) for said in (without, including))
    low, high = difference_interval(after - before, photos)
    return {
        "difference": accuracy(after - before, photos),
        "difference_low": low,
        "difference_high": high,
        "roc_auc_without": float(roc_auc_score(photos.labels, without)),
        "roc_auc_with": float(roc_auc_score(photos.labels, including)),
    }


def _sentence(animal: str, metrics: dict[str, float], added: int, positives: int, photos: int) -> str:
    low, high = metrics["helps_difference_low"], metrics["helps_difference_high"]
    verdict = "it helps" if low > 0 else "it harms" if high < 0 else "neither help nor harm is shown"
    return (
        f"with {added} generated pictures of {animal} beside its {added} photos the classifier's balanced accuracy "
        f"changes by {100 * metrics['helps_difference']:+.1f} points (95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}), its ROC-AUC from {metrics['helps_roc_auc_without']:.4f} to "
        f"{metrics['helps_roc_auc_with']:.4f}: {verdict}. It is judged on the {positives} photos of {animal} and "
        f"{photos - positives} others of the one fold that the generator has not seen. The interval is that of the "
        f"photos; pictures of another generator, or of another seed, may do better or worse"
    )
