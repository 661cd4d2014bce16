"""Two models' out-of-fold answers side by side, for the photos on which both can be judged fairly."""

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ml.analysis.meeting import PairedComparison, compare
from ml.data import datasets
from ml.data.near_duplicates import Fingerprints, near_duplicate_groups
from ml.data.scenes import bursts
from ml.data.splits import joined_groups
from ml.errors import DataError
from ml.stages.answers import UNSEEN, answers_of
from ml.stages.job import Job
from ml.tracking import RegisteredVersion

log = logging.getLogger(__name__)


class Beside(NamedTuple):
    """Photos of the challenger's out-of-fold table, and an earlier model's answers.

    Attributes:
        photos: the rows to compare. `probability` is the challenger's, `champion` the earlier model's, NaN for photos
            that are new to it; `group` holds together what was a group for either of the two.
        left_out: how many photos can't be compared: one of the two was trained with the photo's near-duplicates.
    """

    photos: pd.DataFrame
    left_out: int


def beside(table: pd.DataFrame, then: pd.DataFrame) -> Beside:
    """Put the table of an earlier model, `then`, beside the challenger's `table`; both are of out-of-fold answers.

    What counts is which groups were left out together, not what the folds are called or how many there are. Left out
    is a group of photos that lay in several folds of one of the two, and a new photo in a group that the earlier model
    knew some photos of.
    """
    kept = [name for name in ("fold", "group", "probability", UNSEEN) if name in then]
    earlier = then[["sha256", *kept]].rename(columns={name: f"{name}_then" for name in kept})
    both = table.merge(earlier, on="sha256", how="left").rename(columns={"probability_then": "champion"})
    both["group"] = _joined(both.group, both.group_then)
    new, groups = both.champion.isna(), both.groupby("group")
    folds_then = groups.fold_then.transform("nunique")  # none for a group that is all new
    fair = (groups.fold.transform("nunique") == 1) & np.where(new, folds_then == 0, folds_then == 1)
    photos = both[fair].drop(columns=["fold_then", "group_then"]).reset_index(drop=True)
    return Beside(photos, int((~fair).sum()))


def without_known(job: Job, found: Beside, champion: RegisteredVersion) -> Beside:
    """Leave out new photos that belong together with photos that the champion was trained on, though gone now."""
    photos = found.photos
    new = photos.champion.isna()
    if not new.any():
        return found
    rows = job.dataset.training
    try:
        before = datasets.load(
            job.animal, job.settings.datasets / job.animal, job.settings.cache, champion.tags["dataset"]
        ).training
        if "look" not in before:
            raise DataError("its manifest is of a version that compared photos otherwise")
    except DataError as error:
        log.warning("Whether new photos are like photos of the champion that are gone now isn't known: %s", error)
        return found
    gone, mine = before[~before.sha256.isin(rows.sha256)], rows[rows.sha256.isin(photos.sha256[new])]
    if gone.empty:
        return found
    all_of = pd.concat([gone, mine], ignore_index=True)
    names = all_of.sha256.tolist()
    near = near_duplicate_groups(names, Fingerprints.of(all_of))
    group = np.array(joined_groups(names, near, bursts(all_of), all_of.scene.tolist()))
    known = all_of.sha256[np.isin(group, group[: len(gone)])]
    seen = new & photos.group.isin(photos.group[photos.sha256.isin(known)])
    return Beside(photos[~seen].reset_index(drop=True), found.left_out + int(seen.sum()))


def has_both(photos: pd.DataFrame) -> bool:
    """Return whether there are photos of the animal and of others."""
    return photos.label.nunique() == 2


def compared(photos: pd.DataFrame) -> PairedComparison:
    """Compare the challenger with the earlier model on photos of `beside`."""
    columns = ["label", "class", "group"]
    before = photos[columns].assign(probability=photos.champion)
    if f"{UNSEEN}_then" in photos:
        before[UNSEEN] = photos[f"{UNSEEN}_then"]
    return compare(answers_of({"champion": before, "challenger": photos}), "champion", "challenger")


def _joined(now: pd.Series, then: pd.Series) -> np.ndarray:
    """Number the groups of now and then, int[N] by photo: those that have a photo in common get one number."""
    names_now, names_then = pd.factorize(now)[0], pd.factorize(then)[0]
    known = np.flatnonzero(names_then >= 0)
    nodes = names_now.max() + 1
    size = nodes + names_then.max() + 1
    graph = coo_array((np.ones(len(known)), (names_now[known], nodes + names_then[known])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][names_now])
