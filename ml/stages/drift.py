"""Drift: new photos beside those that each champion was trained with, in the features of one frozen network."""

import logging
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pandas as pd

from ml.analysis import drift
from ml.analysis.drift import Drift
from ml.data import datasets
from ml.data.datasets import Dataset
from ml.data.near_duplicates import Fingerprints, near_duplicate_groups
from ml.errors import DataError
from ml.figures.scores import familiarity
from ml.params import ScoreParams
from ml.settings import Settings
from ml.stages.features import features
from ml.tracking import RegisteredVersion, StageRun

COMPARED = 1000
"""Photos of each kind that are compared at most."""

log = logging.getLogger(__name__)


def measure(
    sample: pd.DataFrame,
    champions: Mapping[str, RegisteredVersion],
    yardstick: str,
    params: ScoreParams,
    settings: Settings,
) -> dict[str, Drift]:
    """Return, for each animal, how far new photos are from those that its champion was trained with.

    `sample` are new photos drawn at random: their `look`, `thumbnail`, and `features` of the network `yardstick`. Of
    near-duplicates one counts, on both sides. An animal whose training photos are gone, or with too few photos to tell,
    is left out.
    """
    new = _unlike(sample)
    found: dict[str, Drift] = {}
    measured: dict[tuple[str, ...], Drift | None] = {}
    for animal, champion in champions.items():
        try:
            dataset = datasets.load(animal, settings.datasets / animal, settings.cache, champion.tags["dataset"])
            drawn = _drawn(dataset, params.seed)
            # Animals usually share their photos: one is the other's negative.
            photos = tuple(dataset.rows.sha256.iloc[drawn])
            if photos not in measured:
                known = features(dataset, drawn, yardstick, settings)
                measured[photos] = drift.measure(new, known, params.seed)
        except DataError as error:
            log.warning("how far the photos are from those of %s is not known: %s", animal, error)
            continue
        if one := measured[photos]:
            found[animal] = one
        else:
            log.warning("%d unlike photos are too few to tell a drift; at least %d are needed", len(new), drift.FEWEST)
    return found


def report(run: StageRun, found: Mapping[str, Drift], params: ScoreParams) -> tuple[dict[str, float], list[str]]:
    """Log the drifts; return their metrics, and a sentence for those that are beyond the threshold."""
    metrics: dict[str, float] = {}
    warnings, rows = [], []
    for _, shared in groupby(found.items(), lambda item: id(item[1])):  # the same photos, the same drift
        names, (one, *_) = zip(*shared, strict=True)
        drifted = one.distance >= params.drift_distance and one.p_value <= params.drift_level
        values = {"distance": one.distance, "p_value": one.p_value, "unfamiliar": one.unfamiliar}
        for animal in names:
            metrics |= {f"drift_{name}_{animal}": value for name, value in values.items()}
            rows.append({"animal": animal, **values, "drifted": drifted})
        if drifted:
            warnings.append(
                f"the photos have drifted from the training photos of {' and '.join(names)}: distance "
                f"{one.distance:.2f} (at least {params.drift_distance:g} is a drift), p = {one.p_value:.3f}; "
                f"{one.unfamiliar:.0%} are like no training photo, where {1 - drift.FAMILIAR:.0%} are to be expected"
            )
        title = f"New photos and the training photos of {' and '.join(names)}: distance {one.distance:.2f}"
        run.figure(f"drift_{names[0]}", familiarity(one.nearest_new, one.nearest_training, one.familiar, title))
    run.table("drift", pd.DataFrame(rows, columns=["animal", "distance", "p_value", "unfamiliar", "drifted"]))
    return metrics, warnings


def _unlike(sample: pd.DataFrame) -> np.ndarray:
    """Return the features of the photos, float32 [K, D], one of each group of near-duplicates."""
    if sample.empty:
        return np.empty((0, 0), np.float32)
    names = [f"{number:08d}" for number in range(len(sample))]
    groups = near_duplicate_groups(names, Fingerprints.of(sample))
    return np.stack(sample.features[~pd.Series(groups, sample.index).duplicated()].tolist())


def _drawn(dataset: Dataset, seed: int) -> np.ndarray:
    """Return training photos at random, int [K], at most `COMPARED`, one of each group of near-duplicates."""
    places = dataset.training.sample(frac=1, random_state=seed).drop_duplicates("group").index.to_numpy()
    return np.sort(places[:COMPARED])
