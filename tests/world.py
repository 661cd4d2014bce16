"""One small world for tests: a few drawings, validated, and an MLflow store of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ml import settings
from ml.data import crops
from ml.params import GanParams, RetrainParams
from ml.results import Candidate, DagRun, StageResult
from ml.settings import Settings
from ml.stages import prepare
from ml.stages.job import GanJob, Job

ANIMAL = "elephant"


@dataclass(frozen=True)
class World:
    """Drawings, settings, and the accepted dataset of one animal."""

    settings: Settings
    validated: StageResult

    def job(self, run_id: str, **params: object) -> Job:
        """Open a DAG run of this name."""
        quick = {"preset": "quick", "baseline_epochs": 1, "map_photos": 60, "tune_mode": "off"}
        chosen = RetrainParams.read(quick | params)
        return prepare.run(ANIMAL, chosen, self.settings, DagRun(f"retrain_{ANIMAL}", run_id))

    def gan_job(self, run_id: str, **params: object) -> GanJob:
        """Open a DAG run of the GAN of this name: small pictures, few steps."""
        chosen = GanParams.read({"size": 32, "steps": 4, "pictures": 12} | params)
        return prepare.run(ANIMAL, chosen, self.settings, DagRun(f"gan_{ANIMAL}", run_id))

    @contextmanager
    def boxes(self, lines: list[str]) -> Iterator[None]:
        """Let these lines be the table beside the drawings, or none if there are none; then again what was there."""
        file = Path(self.settings.photos, ANIMAL, crops.BOXES)
        drawn = file.read_text()
        file.write_text("\n".join([",".join(crops.COLUMNS), *lines])) if lines else file.unlink()
        try:
            yield
        finally:
            file.write_text(drawn)


def make_settings(home: Path, photos: Path) -> Settings:
    return settings.read(
        {
            "MENAGERIE_HOME": str(home),
            "MENAGERIE_PHOTOS": str(photos),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        }
    )


def tuning_of(job: Job) -> StageResult:
    """What a search would hand over: small networks, and one of its own for the fold 0."""
    from ml.models.hypermodel import SIDE, START  # takes TensorFlow along

    small = {**START[0], "filters": 4, "blocks": 2, "colours": 64, "batch_size": 32}
    folds = sorted(job.dataset.training.fold.unique())
    settings = {
        "config": small,
        "by_fold": {str(fold): {**small, "dense": 8 if fold == 0 else 0} for fold in folds},
        "negatives": "balanced",
        "side": SIDE,
        "padding": None,
        "seed": 0,
        "epochs": 1,
    }
    return StageResult("tune", job.animal, job.digest, "0", candidates=(Candidate("tune", 1.0, 0.5, settings),))
