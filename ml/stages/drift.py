"""Drift: new photos beside those that each champion was trained with, in the features of one frozen network."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

COLUMNS = ["animal", "unfamiliar", "unfamiliar_low", "unfamiliar_high", "distance", "p_value", "drifted"]
COMPARED = 1000
"""Photos of each kind that are compared at most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drifts:
    """How far new photos are from the training photos of each animal's champion."""

    found: dict[str, Drift]
    unmeasured: dict[str, str]
    """Why not, for the animals that it isn't known of."""

    def __str__(self) -> str:
        """Say why it isn't known, animals with the same reason together; empty if all are known."""
        reasons = [(reason, animal) for animal, reason in self.unmeasured.items()]
        return "; ".join(
            f"not measured for {_list([animal for _, animal in together])}: {reason}"
            for reason, together in groupby(sorted(reasons), lambda one: one[0])
        )


def measure(
    sample: pd.DataFrame,
    champions: Mapping[str, RegisteredVersion],
    yardstick: str,
    params: ScoreParams,
    settings: Settings,
) -> Drifts:
    """Return, for each animal, how far new photos are from those that its champion was trained with.

    `sample` are new photos drawn at random: their `look`, `thumbnail`, and `features` of the network `yardstick`. Of
    near-duplicates one counts, on both sides. Where an animal's training photos are gone, or photos are too few,
    nothing is measured, and the reason is given.
    """
    new = _unlike(sample)
    found: dict[str, Drift] = {}
    unmeasured: dict[str, str] = {}
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
            unmeasured[animal] = str(error)
            continue
        if one := measured[photos]:
            found[animal] = one
        else:
            fewest, kind = (len(new), "new") if len(new) < drift.FEWEST else (len(drawn), "training")
            unmeasured[animal] = (
                f"{fewest} {kind} photos, near-duplicates counted once, are too few; at least {drift.FEWEST} are needed"
            )
    return Drifts(found, unmeasured)


def report(run: StageRun, found: Mapping[str, Drift], params: ScoreParams) -> tuple[dict[str, float], list[str]]:
    """Log the drifts; return their metrics, and a sentence for those that are beyond the threshold."""
    metrics: dict[str, float] = {}
    warnings, rows = [], []
    for _, shared in groupby(found.items(), lambda item: id(item[1])):  # the same photos, the same drift
        names, (one, *_) = zip(*shared, strict=True)
        drifted = one.is_beyond(params.drift_distance, params.drift_level)
        values = {
            "unfamiliar": one.unfamiliar,
            "unfamiliar_low": one.unfamiliar_low,
            "unfamiliar_high": one.unfamiliar_high,
            "distance": one.distance,
            "p_value": one.p_value,
        }
        for animal in names:
            metrics |= {f"drift_{name}_{animal}": value for name, value in values.items()}
            rows.append({"animal": animal, **values, "drifted": drifted})
        if drifted:
            warnings.append(
                f"{one.unfamiliar:.0%} of the photos are unlike any training photo of {_list(names)} "
                f"(95 % interval {one.unfamiliar_low:.0%} to {one.unfamiliar_high:.0%}; "
                f"{1 - drift.FAMILIAR:.0%} are to be expected): they have drifted"
            )
        title = (
            f"{one.unfamiliar:.0%} of the new photos are unlike any training photo of {_list(names)} "
            f"({1 - drift.FAMILIAR:.0%} expected)"
        )
        run.figure(f"drift_{names[0]}", familiarity(one.nearest_new, one.nearest_training, one.familiar, title))
    run.table("drift", pd.DataFrame(rows, columns=COLUMNS))
    return metrics, warnings


def _list(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


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
