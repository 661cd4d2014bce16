"""Crops: the photos of the animal, cut around it so that all show it at the same place and size."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import figures
from ml.analysis import alignment, explanation, heat
from ml.data import crops, mirror
from ml.data.crops import Box
from ml.data.photos import resize
from ml.errors import DataError
from ml.models.backbones import CUTS, build_backbone
from ml.results import StageResult
from ml.stages.job import Findings, GanJob, perform
from ml.tracking import RegisteredVersion, StageRun

STAGE, BOXES = "crops", "boxes"
BACKBONE = "EfficientNetLite0"
BY_TABLE = "by the table beside them"
BY_CHAMPION = "where the champion is sure, and aligned with each other"
BY_LIKENESS = "where they are most alike"
UNALIGNED = 0.38
"""Likeness below which crops are warned of. Windows at random have 0.25 to 0.29, the middles of photos 0.29 to 0.35,
heads of foxes cut by hand 0.42."""
BATCH, COLUMNS = 32, 10
WHOLE = Box(0.0, 0.0, 1.0, 1.0)
SIDES = ("left", "top", "right", "bottom")
MARGIN = 76 / 64
HELD_OUT = 0
"""The fold whose photos the GAN never sees: near-duplicates of them are in no other."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crops:
    """Photos of the animal, cut around it."""

    training: np.ndarray
    """uint8 [N, S', S', 3] with S' = round(size * 76 / 64): room for random windows of `size`."""
    held_out: np.ndarray
    """uint8 [M, size, size, 3], the middle of such crops: photos of fold 0, which the GAN never sees."""
    training_paths: list[str]
    held_out_paths: list[str]
    aligned: str
    """Where the boxes come from: in words."""


def run(job: GanJob) -> StageResult:
    """Find where the animal is in each photo, and keep the boxes with a contact sheet of what is in them.

    The boxes are those of `boxes.csv` beside the photos; without, the photos are aligned with each other, beginning
    where the champion looks and minding how sure it is of what is shown or, without a champion, in the middle. The half
    of the photos of whose crops the champion is less sure is left out.
    """
    rows = job.dataset.training
    rows = rows[rows.label == 1]
    given = _given(rows)
    champion = None if given else job.tracker.champion(job.classifier_name)
    choices = {
        "boxes": hashlib.sha256(repr(given).encode()).hexdigest()[:16] if given else None,
        "champion": champion.version if champion else None,
        "size": job.params.size,
    }

    def work(stage: StageRun, _: Path) -> Findings:
        look = _look()
        photos = [job.dataset.pixels(index) for index in rows.index]
        if given:
            how, decided = BY_TABLE, rows.path.isin(given).to_numpy()
            boxes = np.array([astuple(given.get(path, WHOLE)) for path in rows.path])
        elif champion:
            how, classifier = BY_CHAMPION, _Classifier.load(job, champion)
            recognise = partial(classifier.recognise, side=job.params.size)
            aligned = alignment.align(photos, classifier.attention(photos), look, recognise)
            boxes, decided = aligned.boxes, sure(aligned.probabilities)
        else:
            how, decided = BY_LIKENESS, np.ones(len(photos), bool)
            boxes = alignment.align(photos, [(0.5, 0.5)] * len(photos), look).boxes
        table = rows[["path", "sha256", "fold"]].assign(aligned=how, **dict(zip(SIDES, boxes.T, strict=True)))[decided]
        stage.table(BOXES, table)
        cut = _cut(job, table, job.params.size)
        likeness = alignment.likeness(cut, look)
        title = f"{len(cut)} photos of {job.animal}, cut {how}: all should show the same of it, at the same size"
        stage.figure(STAGE, figures.contact_sheet(list(cut), [""] * len(cut), title, columns=COLUMNS))
        if likeness < UNALIGNED:
            log.warning("%s", _warning(likeness))
        return Findings(_sentence(how, likeness, decided), {"n_crops": float(len(cut)), "likeness": likeness})

    return perform(job, STAGE, choices, work)


def sure(probabilities: np.ndarray) -> np.ndarray:
    """Return which crops to show the GAN, bool [N]: the surer half. Fewer that show the animal teach it more than all.

    How sure in itself says nothing: the champion knows its training photos by heart, and the worst crop of one too.
    """
    return probabilities >= np.median(probabilities)


def of(job: GanJob) -> Crops:
    """Return the crops whose boxes `run` found in this DAG run.

    Raises:
        DataError: it found none yet.
    """
    table = job.tracker.read_table(key(job), BOXES)
    cut = _cut(job, table, round(job.params.size * MARGIN))
    held_out = (table.fold == HELD_OUT).to_numpy()
    return Crops(
        cut[~held_out],
        crops.centre(cut[held_out], job.params.size),
        table.path[~held_out].tolist(),
        table.path[held_out].tolist(),
        table.aligned[0],
    )


def key(job: GanJob) -> str:
    """Return what names these crops, for those whose work depends on them: the MLflow run that holds the boxes.

    Raises:
        DataError: there is none yet.
    """
    run_id = job.tracker.linked(job.parent, STAGE)
    if run_id is None:
        raise DataError(f"No crops of {job.animal} in this DAG run yet. Run the task {STAGE} first.")
    return run_id


def _cut(job: GanJob, table: pd.DataFrame, side: int) -> np.ndarray:
    places = {sha256: place for place, sha256 in enumerate(job.dataset.rows.sha256)}
    photos = [job.dataset.pixels(places[sha256]) for sha256 in table.sha256]
    boxes = [Box(*sides) for sides in table[list(SIDES)].to_numpy()]
    return np.stack([crops.cut(photo, box, side) for photo, box in zip(photos, boxes, strict=True)])


def _given(rows: pd.DataFrame) -> dict[str, Box]:
    """Return the boxes of the tables beside the photos, by path; none where there is no table."""
    found: dict[str, Box] = {}
    for folder, paths in rows.groupby(rows.root + "/" + rows.path.str.rpartition("/")[0]).path:
        file = mirror.file(f"{folder}/{crops.BOXES}")
        boxes = crops.read_boxes(file) if file.is_file() else {}
        found |= {path: boxes[name] for path in paths if (name := path.rpartition("/")[2]) in boxes}
    return found


def _look() -> Callable[[np.ndarray], np.ndarray]:
    network = build_backbone(BACKBONE)
    maps = keras.Model(network.input, network.get_layer(CUTS[BACKBONE]).output)

    def look(images: np.ndarray) -> np.ndarray:
        parts = [maps(images[start : start + BATCH], training=False) for start in range(0, len(images), BATCH)]
        return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])

    return look


@dataclass(frozen=True)
class _Classifier:
    """The champion, as far as it helps to find the animal."""

    model: keras.Model
    padding: tuple[int, int, int] | None

    @classmethod
    def load(cls, job: GanJob, champion: RegisteredVersion) -> "_Classifier":
        return cls(job.tracker.load_model(champion), champion.padding)

    def attention(self, photos: list[np.ndarray]) -> list[tuple[float, float]]:
        """Return the middle of what it looks at in each photo, as shares of its width and height."""
        heats = explanation.grad_cam(self.model, self._images(photos))
        padded = self.padding is not None
        return [
            alignment.middle(heat.on_photo(one, photo.shape[:2], padded))
            for one, photo in zip(heats, photos, strict=True)
        ]

    def recognise(self, photos: Sequence[np.ndarray], boxes: Iterable[np.ndarray], side: int) -> np.ndarray:
        """Return its probabilities for what is in the boxes, at `side` pixels, float [N]."""
        cut = [crops.cut(photo, Box(*box), side) for photo, box in zip(photos, boxes, strict=True)]
        return self.model.predict(self._images(cut), batch_size=BATCH, verbose=0)[:, 0]

    def _images(self, photos: list[np.ndarray]) -> np.ndarray:
        height, width = self.model.input_shape[1:3]
        return np.stack([resize(photo, height, width, self.padding) for photo in photos])


def _warning(likeness: float) -> str:
    return (
        f"the crops look unaligned ({likeness:.2f}; those of well aligned photos are alike by {UNALIGNED} or more), so "
        "the pictures will hardly be recognisable: give boxes around the animal or, better, its face in a table "
        f"{crops.BOXES} beside the photos, with the columns {', '.join(crops.COLUMNS)}"
    )


def _sentence(how: str, likeness: float, decided: np.ndarray) -> str:
    left_out = "" if decided.all() else f", {(~decided).sum()} left out"
    warned = f"; {_warning(likeness)}" if likeness < UNALIGNED else ""
    return f"{decided.sum()} photos are cut {how}{left_out}; they are alike by {likeness:.2f}{warned}"
