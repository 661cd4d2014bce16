"""What stages said of photos, from their out-of-fold tables, for choosing and meeting."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ml.analysis.classification import THRESHOLD
from ml.analysis.intervals import Photos
from ml.analysis.selection import Answers

UNSEEN = "unseen"
"""The column with the probability by models that never saw the photo's class; a table may lack it."""


def answers_of(tables: Mapping[str, pd.DataFrame]) -> Answers:
    """Return the answers of the candidates whose out-of-fold `tables` these are, all of the same photos, in one order.

    Raises:
        DataError: there are none of the animal, or none of others.
    """
    first = next(iter(tables.values()))
    photos = Photos.of(first.label, first["class"], first.group)
    return Answers(
        photos,
        {name: (table.probability >= THRESHOLD).to_numpy() == photos.labels for name, table in tables.items()},
        {name: _unseen(table, photos.labels) for name, table in tables.items()},
    )


def _unseen(table: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    """Whether models that never saw the class are right, float [N]; NaN where it isn't measured, as of the animal's."""
    probability = table[UNSEEN].to_numpy(float) if UNSEEN in table else np.full(len(table), np.nan)
    return np.where(np.isnan(probability) | labels, np.nan, (probability >= THRESHOLD) == labels)
