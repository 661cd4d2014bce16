"""Scoring: what the champions say of a folder of new photos, and how far those are from the training photos.

A photo is decoded once, and passes what the champions have in common once. Photos are taken a chunk at a time: memory
doesn't grow with their number, and a scoring that was killed goes on at the chunk where it was, as long as the same
photos are there.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from ml import fingerprint, progress
from ml.analysis.prevalence import threshold
from ml.data import incoming, mirror, scores
from ml.data.incoming import Incoming
from ml.data.listing import PassedOver
from ml.data.scores import Unfinished
from ml.errors import ServiceError
from ml.params import ScoreParams
from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages import drift, found_means, score_report
from ml.stages.jury import BATCH, Jury, champions
from ml.tracking import Tracker, work_key

STAGE = "score_images"
EXAMPLES = 500
"""Photos that are drawn if no folder is named."""

log = logging.getLogger(__name__)


def run(
    params: ScoreParams,
    settings: Settings,
    dag_run: DagRun | None = None,
    heard: Callable[[int, int], None] = lambda done, total: None,
) -> StageResult:
    """Score the photos of a folder; `heard` is told how many of how many are done.

    `scores.csv`, `scores.parquet` and the contact sheet lie in the folder that the summary names, and in the MLflow
    run, which is that of the DAG run or, without one, the scoring's own. Photos that can't be read have the reason in
    their row. The metric `drift` is 1 if the photos are too far from an animal's training photos.

    Raises:
        DataError: there is no champion, or no photo.
        ServiceError: MLflow doesn't answer, or the folder is being scored by another process.
    """
    passed = PassedOver()
    root = mirror.folder(settings.root(params.photos), passed)
    tracker = Tracker(settings.mlflow_uri, settings.mlflow_link)
    found = champions(settings, tracker)
    jury = Jury.assemble(found, tracker)
    judges = {name: found[name] for name in jury.animals}
    folder = settings.home / "scores" / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    most = params.most_photos if params.photos or params.most_photos else EXAMPLES
    with _alone(folder):
        names = incoming.listing(root, most, params.seed, passed)
        if passed.count:
            log.warning("%s", passed.sentence())
        listed = hashlib.sha256(b"\0".join(names)).hexdigest()
        choices = {"photos": listed, "seed": params.seed, "prevalence": params.prevalence} | {
            name: judge.uri for name, judge in judges.items()
        }
        key = work_key(STAGE, str(root), choices, fingerprint.of(__name__))
        work = Unfinished.find(folder / "unfinished", key)
        if work is None:
            work = Unfinished.begin(folder / "unfinished", key, datetime.now(UTC).isoformat(timespec="seconds"), names)
        elif work.n_done:
            log.info(
                "an earlier try scored %d of %d photos; it goes on there", work.n_done * scores.CHUNK, work.n_photos
            )
        recorded = dag_run or DagRun("menagerie score", work.started)
        with tracker.closing(tracker.open_run(STAGE, recorded, key, params.model_dump())) as stage:
            stage.tag("folder", str(root))
            stage.log({"n_passed_over": float(passed.count)})
            stage.tag("passed_over", passed.sentence()[:4000])
            stage.tag("champions", ", ".join(f"{name} {champion.version}" for name, champion in judges.items()))
            speed = _score(work, root, jury, params, heard)
            points = {name: found_means.operating_point(tracker, one, params) for name, one in judges.items()}
            result = score_report.conclude(
                work, root, judges, points, params, settings, folder, stage, {"photos_a_second": speed}
            )
        work.forget()
    log.info("%s", result.summary)
    return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from scoring the same folder at the same time; a process that dies lets go."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise ServiceError(
            f"The same photos are being scored by another process (it holds {folder / 'lock'})."
        ) from error


def _score(work: Unfinished, root: Path, jury: Jury, params: ScoreParams, heard: Callable[[int, int], None]) -> float:
    """Score the chunks that are not done; return photos a second."""
    compared = np.random.default_rng(params.seed).permutation(work.n_photos)[: drift.COMPARED]
    is_compared = np.zeros(work.n_photos, bool)
    is_compared[compared] = True
    photos = incoming.arriving(root, work.names(), jury.canvases)
    found_from = threshold(params.prevalence)
    first = done = work.n_done * scores.CHUNK
    started = time.monotonic()
    for number in range(work.n_done, work.n_chunks):
        rows: list[dict] = []
        while len(rows) < scores.CHUNK and (batch := list(islice(photos, BATCH))):
            rows += _judged(batch, jury, is_compared[done : done + len(batch)], found_from)
            done += len(batch)
            progress.tell("photo", done, work.n_photos)
            heard(done, work.n_photos)
        columns = ["path", "found", *jury.animals, "problem", "width", "height", "features", "look", "thumbnail"]
        types = {"width": "Int32", "height": "Int32"} | dict.fromkeys(jury.animals, "float32")
        work.keep(number, pd.DataFrame(rows, columns=columns).astype(types))
        spent = time.monotonic() - started
        left = (work.n_photos - done) * spent / (done - first)
        log.info("%d of %d photos, %.0f a second, %.0f s left", done, work.n_photos, (done - first) / spent, left)
    return (done - first) / max(time.monotonic() - started, 1e-9)


def _judged(batch: list[Incoming], jury: Jury, is_compared: np.ndarray, found_from: float) -> list[dict]:
    """Return a row for each photo."""
    readable = [photo for photo in batch if not photo.facts.problem]
    answers = iter(zip(*jury.judge(readable), strict=True))
    rows = []
    for photo, compared in zip(batch, is_compared, strict=True):
        facts = photo.facts
        row: dict[str, Any] = {
            "path": photo.path,
            "problem": facts.problem or "",
            "width": facts.width,
            "height": facts.height,
        }
        if not facts.problem:
            said, features = next(answers)
            row |= dict(zip(jury.animals, said, strict=True))
            row["found"] = "+".join(
                animal for animal, probability in zip(jury.animals, said, strict=True) if probability >= found_from
            )
            if compared:
                row |= {"features": features, "look": facts.look, "thumbnail": facts.thumbnail}
        rows.append(row | {"found": row.get("found", "")})
    return rows
