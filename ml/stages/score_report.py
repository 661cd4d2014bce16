"""What a scoring leaves: the table with a header that explains itself, the contact sheet, the drift, the numbers."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from ml.analysis.prevalence import Scores, threshold
from ml.data import incoming, scores
from ml.data.files import replacing
from ml.data.incoming import Canvas
from ml.data.scores import Column, Unfinished
from ml.figures import png
from ml.figures.scores import Shown, score_sheet
from ml.params import ScoreParams
from ml.results import StageResult
from ml.settings import Settings
from ml.stages import drift, found_means
from ml.stages.jury import YARDSTICK
from ml.tracking import RegisteredVersion, StageRun

SHOWN = 6
"""Photos of a kind on the contact sheet."""
NAMED = 1000
"""Photos that can't be read of which MLflow keeps a table; the scores have them all."""
THUMBNAIL = Canvas(240, 320, (255, 255, 255))

log = logging.getLogger(__name__)


def conclude(
    work: Unfinished,
    root: Path,
    champions: Mapping[str, RegisteredVersion],
    points: Mapping[str, pd.DataFrame | None],
    params: ScoreParams,
    settings: Settings,
    folder: Path,
    run: StageRun,
    metrics: dict[str, float],
) -> StageResult:
    """Put the chunks together in `folder`, log all of it, and return what was found; `metrics` are logged too.

    `points` say what each champion finds out of fold (`found_means.operating_point`).
    """
    seen = _Seen(list(champions), threshold(params.prevalence))
    table = folder / "scores"
    scores.publish(
        map(seen.look, work.chunks()),
        _columns(champions, seen.found_from),
        _title(work, root, champions, points, params),
        table,
    )
    for path, problem in zip(seen.unreadable.path[:20], seen.unreadable.problem[:20], strict=True):
        log.warning("%r: %s", path, problem)

    sheet = seen.sheet(root)
    with replacing(folder / "contact_sheet.png") as aside:
        aside.write_bytes(png(sheet))
    drifts = drift.measure(seen.compared, champions, YARDSTICK, params, settings)
    drift_metrics, warnings = drift.report(run, drifts.found, params)
    unmeasured = str(drifts)
    for warning in [*warnings, *([f"drift was {unmeasured}"] if unmeasured else [])]:
        log.warning("%s", warning)

    counts = {f"n_{animal}": float(seen.counts[animal]) for animal in champions}
    metrics = metrics | {"n_photos": float(work.n_photos), "n_unreadable": float(seen.counts["unreadable"]), **counts}
    estimates = {animal: seen.scores[animal].estimate(params.prevalence) for animal in champions}
    for animal, estimate in estimates.items():
        metrics |= {f"{name}_{animal}": value for name, value in vars(estimate).items()} if estimate else {}
        if (point := points[animal]) is not None:
            run.table(f"operating_point_{animal}", point)
    meanings = [found_means.sentence(name, seen.counts[name], estimates[name], points[name]) for name in champions]
    run.tag("found_means", " ".join(meanings))
    metrics |= drift_metrics | ({"drift": float(bool(warnings))} if drifts.found else {})
    run.log(metrics)
    run.tag("drift", "; ".join([*(warnings or ["none"] * bool(drifts.found)), *filter(None, [unmeasured])]))
    run.figure("contact_sheet", sheet)
    run.table("unreadable", seen.unreadable)
    for suffix in (".csv", ".parquet"):
        run.file(table.with_suffix(suffix), "scores")
    return StageResult(
        "score_images", "", work.key, run.id, metrics, (), seen.summary(work, table, meanings, warnings, unmeasured)
    )


class _Seen:
    """What is kept of the chunks while they pass: counts, and the few photos that are shown, named or compared."""

    def __init__(self, animals: list[str], found_from: float) -> None:
        self.animals = animals
        self.found_from = found_from
        self.scores = {animal: Scores() for animal in animals}
        self.counts: Counter[str] = Counter()
        self.unreadable = pd.DataFrame(columns=["path", "problem"])
        self.compared = pd.DataFrame(columns=["features", "look", "thumbnail"])
        self.surest = {animal: pd.DataFrame(columns=["path", animal]) for animal in animals}
        self.unsure = dict(self.surest)

    def look(self, chunk: pd.DataFrame) -> pd.DataFrame:
        """Return the chunk, as it is."""
        broken = chunk[chunk.problem != ""]
        self.counts["unreadable"] += len(broken)
        self.unreadable = _join(self.unreadable, broken[["path", "problem"]])[:NAMED]
        self.compared = _join(self.compared, chunk.loc[chunk.features.notna(), ["features", "look", "thumbnail"]])
        for animal in self.animals:
            rows = chunk.loc[chunk[animal].notna(), ["path", animal]]
            is_found = rows[animal] >= self.found_from
            found = rows[is_found]
            self.scores[animal].add(rows[animal], is_found)
            self.counts[animal] += len(found)
            self.surest[animal] = _join(self.surest[animal], found).nlargest(SHOWN, animal)
            both = _join(self.unsure[animal], rows)
            self.unsure[animal] = both.loc[(both[animal] - self.found_from).abs().nsmallest(SHOWN).index]
        return chunk

    def sheet(self, root: Path) -> Figure:
        """Draw the surest and the least sure photos of each animal, as they are now in their files."""
        parts = []
        for animal in self.animals:
            kinds = {f"{animal}: {self.counts[animal]:,} found, the surest": self.surest[animal]}
            kinds |= {f"{animal}: nearest to {self.found_from:g}": self.unsure[animal]}
            for title, rows in kinds.items():
                said = {path: f"{value:.2f}\n{path}" for path, value in zip(rows.path, rows[animal], strict=True)}
                photos = {path: incoming.read(root, path.encode(), [THUMBNAIL]) for path in said}
                there = [path for path in said if photos[path].images]
                parts.append(Shown(title, [photos[path].images[0] for path in there], [said[path] for path in there]))
        return score_sheet(parts, f"What the champions say of the photos in {root.name}")

    def summary(self, work: Unfinished, table: Path, meanings: list[str], warnings: list[str], unmeasured: str) -> str:
        found = ", ".join(f"{self.counts[animal]:,} of {animal}" for animal in self.animals)
        drifted = f" But {'; '.join(warnings)}." if warnings else ""
        drifted += f" Drift was {unmeasured}." if unmeasured else ""
        return (
            f"{work.n_photos:,} photos, {self.counts['unreadable']:,} of them can't be read: {found}. "
            f"The scores are in {table.with_suffix('.csv')}. {' '.join(meanings)}{drifted}"
        )


def _join(some: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    return more if some.empty else pd.concat([some, more], ignore_index=True)


def _columns(champions: Mapping[str, RegisteredVersion], found_from: float) -> list[Column]:
    return [
        Column("path", pa.string(), "the photo below the folder"),
        Column("found", pa.string(), f"the animals with a probability of {found_from:g} or more joined by +"),
        *(Column(animal, pa.float32(), f"probability from 0 to 1 of {animal} in the photo") for animal in champions),
        Column("problem", pa.string(), "why the photo could not be read - it has no probabilities then"),
        Column("width", pa.int32(), "of the photo in pixels"),
        Column("height", pa.int32(), "of the photo in pixels"),
    ]


def _title(
    work: Unfinished,
    root: Path,
    champions: Mapping[str, RegisteredVersion],
    points: Mapping[str, pd.DataFrame | None],
    params: ScoreParams,
) -> list[str]:
    """Return what a reader has to know, in lines without commas: spreadsheets would cut them there."""
    models = " and ".join(f"{one.name} version {one.version}" for one in champions.values())
    return [
        f"What Menagerie says of {work.n_photos} photos in {str(root)!r}. Begun at {work.started}. One row a photo.",
        f"By the models {models}.",
        "The probabilities are made for animals that are on every second photo. If p is the probability in the table",
        "and an animal is on a share s of the photos then p*s / (p*s + (1-p)*(1-s)) is its probability there.",
        *([] if params.prevalence is None else [f"Found: more likely than not at a share of {params.prevalence:g}."]),
        *(
            found_means.expected(animal, point).replace(",", "")
            for animal, point in points.items()
            if point is not None
        ),
        "To read it in Python: pandas.read_csv(file, comment='#'). In R: read.csv(file, comment.char='#').",
    ]
