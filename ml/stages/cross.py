"""The champions on each other's photos: how often a tiger is taken for a fox, and so on."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ml import animals, figures
from ml.analysis.classification import THRESHOLD, wilson_interval
from ml.data import manifest
from ml.data.datasets import Dataset
from ml.errors import LostError
from ml.results import StageResult
from ml.stages.evaluation import OUT_OF_FOLD
from ml.stages.job import Findings, Job, perform
from ml.tracking import RegisteredVersion, StageRun

STAGE = "cross"

log = logging.getLogger(__name__)


def run(job: Job) -> StageResult:
    """Let each animal's champion judge the photos of every animal: out of fold those that it was trained with.

    An animal without a champion that can be used, or without accepted photos, leaves its row or column empty.
    """
    names = list(animals.read(job.settings.animals))
    champions = job.tracker.champions(names)
    digests = {name: manifest.accepted(job.settings.datasets / name) for name in names}
    choices = {
        "champions": {name: champion.version for name, champion in champions.items()},
        "datasets": digests,
    }

    def work(stage: StageRun, _: Path) -> Findings:
        datasets = {name: job.dataset_of(name, digest) for name, digest in digests.items() if digest}
        rows = []
        for judge in names:
            try:
                said = _says_of_all(job, champions[judge], datasets) if judge in champions else {}
            except LostError as error:
                log.warning("the champion of %s is left out: %s", judge, error)
                said = {}
            for shown in names:
                if shown not in said:
                    rows.append((judge, shown, 0, np.nan, np.nan, np.nan))
                    continue
                n, taken = len(said[shown]), int((said[shown] >= THRESHOLD).sum())
                rows.append((judge, shown, n, taken / n, *wilson_interval(taken, n)))
        matrix = pd.DataFrame(rows, columns=["champion", "photos_of", "n", "share", "share_low", "share_high"])
        stage.table("cross_animals", matrix)
        shares, counts = (matrix[column].to_numpy().reshape(len(names), -1) for column in ("share", "n"))
        stage.figure("cross_animals", figures.cross_animals(names, shares, counts))
        return _found(matrix[(matrix.champion != matrix.photos_of) & matrix.n.gt(0)])

    return perform(job, STAGE, choices, work)


def _says_of_all(job: Job, champion: RegisteredVersion, datasets: dict[str, Dataset]) -> dict[str, np.ndarray]:
    table = job.tracker.read_table(champion.run_id, OUT_OF_FOLD)
    return {shown: _says(job, champion, table, dataset) for shown, dataset in datasets.items()}


def _says(job: Job, champion: RegisteredVersion, table: pd.DataFrame, dataset: Dataset) -> np.ndarray:
    """Return what a champion says of all photos of the dataset's animal; `table` are its out-of-fold predictions."""
    mine = dataset.rows[dataset.rows.label == 1]
    said = mine.sha256.map(table.drop_duplicates("sha256").set_index("sha256").probability).to_numpy(float, copy=True)
    new = np.isnan(said)
    if new.any():
        from ml.stages.final import predict  # takes TensorFlow along

        log.info("%s was not trained with %d photos of %s: it judges them now", champion.uri, new.sum(), dataset.animal)
        model, padding = job.tracker.load_model(champion), champion.padding
        said[new] = predict(model, dataset, mine.index.to_numpy()[new], padding)
    return said


def _found(others: pd.DataFrame) -> Findings:
    if others.empty:
        return Findings("there is no other animal's champion or photo yet")
    rows = others.to_dict("records")
    worst = max(rows, key=lambda row: row["share"])
    return Findings(
        f"of other animals' photos, those of {worst['photos_of']} are taken most often for {worst['champion']}: "
        f"{worst['share']:.1%} of {worst['n']} ({worst['share_low']:.1%} to {worst['share_high']:.1%})",
        {f"taken_{row['photos_of']}_for_{row['champion']}": row["share"] for row in rows},
    )
