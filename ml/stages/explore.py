"""Exploration: where the animal lies among the others, for raw pixels and for pretrained features, on t-SNE maps."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ml import figures
from ml.analysis import classification, embedding
from ml.errors import MissingWeightsError
from ml.results import StageResult
from ml.stages.features import features
from ml.stages.job import Findings, Job, perform
from ml.tracking import StageRun

STAGE = "explore"
PIXELS = 32
SHOWN = 24

log = logging.getLogger(__name__)


def run(job: Job) -> StageResult:
    """Draw the maps of a sample of the photos, and a contact sheet of them."""
    choices = {"seed": job.params.seed, "photos": job.params.map_photos, "backbones": job.params.backbones}

    def work(stage: StageRun, _: Path) -> Findings:
        rows = job.dataset.training
        truth, names = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
        shown = rows.iloc[embedding.map_sample(truth, names, job.params.seed, job.params.map_photos)]
        labels, classes = shown.label.to_numpy(bool), shown["class"].to_numpy(str)
        groups = np.unique(shown.group, return_inverse=True)[1]
        backbone, given = _first_features(job, shown.index)
        spaces = {
            "raw pixels": job.dataset.images(shown.index, PIXELS, PIXELS).reshape(len(shown), -1).astype(np.float32),
            backbone: given,
        }
        maps, metrics = {}, {}
        for name, points in spaces.items():
            flat = embedding.tsne(points, job.params.seed)
            known = [
                embedding.separability(space, labels, classes, groups, job.params.seed) for space in (points, flat)
            ]
            maps[name] = figures.Map(flat, *known)
            metrics[f"separability_{name.replace(' ', '_')}"] = known[0]
        stage.figure("tsne", figures.tsne_maps(maps, classes, job.animal))
        stage.figure("photos", _contact_sheet(job))
        said = ", ".join(f"{name} {known:.1%}" for name, (_, known, _) in maps.items())
        return Findings(f"nearest neighbours tell {job.animal} from others: {said} ({len(shown)} photos)", metrics)

    return perform(job, STAGE, choices, work)


def _first_features(job: Job, indices: pd.Index) -> tuple[str, np.ndarray]:
    """Return the first of the chosen backbones whose weights can be had, and its features of the photos."""
    assert job.params.backbones  # the preset has filled them in
    *others, last = job.params.backbones
    for backbone in others:
        try:
            return backbone, features(job.dataset, indices, backbone, job.settings)
        except MissingWeightsError as error:
            log.warning("the map is drawn with the next network: %s", error)
    return last, features(job.dataset, indices, last, job.settings)


def _contact_sheet(job: Job) -> Figure:
    rows = job.dataset.training
    random = np.random.default_rng(job.params.seed)
    truth, classes = rows.label.to_numpy(bool), rows["class"].to_numpy(str)
    chosen = np.concatenate(
        [classification.draw_evenly(np.flatnonzero(side), classes, SHOWN // 2, random) for side in (truth, ~truth)]
    )
    shown = rows.iloc[chosen]
    title = f"{job.animal}, and the others: {SHOWN} of {len(rows):,} photos"
    return figures.contact_sheet([job.dataset.pixels(i) for i in shown.index], shown["class"].tolist(), title)
