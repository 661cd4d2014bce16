"""What it means that photos are found: how many of them are right, and how often a champion errs."""

import logging

import pandas as pd

from ml.analysis.prevalence import Estimate, operating_points, threshold
from ml.animals import indefinite
from ml.errors import LostError
from ml.params import ScoreParams
from ml.stages.evaluation import OUT_OF_FOLD
from ml.tracking import RegisteredVersion, Tracker

log = logging.getLogger(__name__)


def operating_point(tracker: Tracker, champion: RegisteredVersion, params: ScoreParams) -> pd.DataFrame | None:
    """Return what the champion finds out of fold at the threshold in force, one row of `operating_points`.

    Nothing, with a warning, if its out-of-fold predictions are gone.
    """
    try:
        table = tracker.read_table(champion.run_id, OUT_OF_FOLD)
        return operating_points(table, threshold(params.prevalence))
    except (LostError, KeyError) as error:
        log.warning("How often %s errs can't be given: %s", champion.uri, error)
        return None


def sentence(animal: str, found: int, estimate: Estimate | None, point: pd.DataFrame | None) -> str:
    """Return in words how many photos show the animal, how many found are right, and how often the champion errs."""
    if estimate is None:
        return ""
    share = f"{estimate.share:.1%} of the photos are expected to show {indefinite(animal)}"
    if estimate.share_low < estimate.share_high:
        share = (
            f"By the scores {estimate.share:.1%} ({estimate.share_low:.1%} to {estimate.share_high:.1%}) of the photos "
            f"show {indefinite(animal)}"
        )
    right = (
        f"{estimate.right:,.0f} ({estimate.right_low:,.0f} to {estimate.right_high:,.0f}) of the {found:,} found are"
    )
    said = f"{share}, and {right} expected to be right, if no animal is among them that training never saw."
    return said if point is None else f"{said} {expected(animal, point)}"


def expected(animal: str, point: pd.DataFrame) -> str:
    """Return in words what the champion finds and how often it errs, out of fold."""
    (row,) = point.to_dict("records")
    name = indefinite(animal)

    def share(name: str, of: int) -> str:
        middle, low, high = (of * row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return f"{middle:.0f} ({low:.0f} to {high:.0f})"

    unseen = ""
    if "unseen_false_alarms" in row:
        unseen = f", and of 1,000 photos of an animal that training never saw {share('unseen_false_alarms', 1000)}"
    return (
        f"Of 100 photos of {name} the champion finds {share('sensitivity', 100)}; of 1,000 photos of the other animals "
        f"in training it takes {share('false_alarms', 1000)} for {name}{unseen}."
    )
