"""An open run of one stage, and the calls that write to it."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ml import progress
from ml.data.cells import guarded
from ml.tracking import networks, registry
from ml.tracking.keys import TAG
from ml.tracking.registry import RegisteredVersion

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"


class StageRun:
    """An open run of one stage: everything it leaves goes through here."""

    def __init__(self, client: "MlflowClient", run_id: str, experiment_id: str) -> None:
        self.id = run_id
        self._client = client
        self._experiment_id = experiment_id

    def log(self, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
        """Log single numbers and settings, in one call."""
        log_batch(self._client, self.id, [(k, v, 0) for k, v in (metrics or {}).items()], params)

    def points(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a point of each of several curves, in one call."""
        log_batch(self._client, self.id, [(name, value, step) for name, value in metrics.items()])

    def child(
        self,
        name: str,
        metrics: Mapping[str, float],
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a fold or a trial as a finished run of its own: its numbers, curves (one value an epoch) and settings."""
        tags = {PARENT: self.id, TAG + "stage": name.split(maxsplit=1)[0]}
        run = self._client.create_run(self._experiment_id, run_name=name, tags=tags)
        points = [
            (metric, value, step) for metric, values in (curves or {}).items() for step, value in enumerate(values)
        ]
        log_batch(self._client, run.info.run_id, [*((k, v, 0) for k, v in metrics.items()), *points], params)
        self._client.set_terminated(run.info.run_id)

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a picture as `plots/<name>.png`."""
        self._client.log_figure(self.id, figure, f"plots/{name}.png", save_kwargs={"dpi": 130})

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Keep a table as `tables/<name>.csv`."""
        self._client.log_text(self.id, guarded(table).to_csv(index=False), f"tables/{name}.csv")

    def text(self, path: str, text: str) -> None:
        self._client.log_text(self.id, text, path)

    def file(self, path: Path, folder: str) -> None:
        self._client.log_artifact(self.id, str(path), folder)

    def network(self, name: str, model: "keras.Model") -> None:
        """Keep a network as the file `name`, which ends in `.keras`; `Tracker.load_network` loads it again."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            model.save(file)
            self.tag(f"{registry.CHECKSUM}.{name}", networks.checksum(file))
            self.file(file, "")

    def tag(self, name: str, value: str) -> None:
        self._client.set_tag(self.id, TAG + name, value)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Keep the newest of what `ml.progress` is told in the block with the run, as a tag that goes when it ends."""
        from mlflow.exceptions import MlflowException

        try:
            with progress.reporting(lambda told: self.tag("progress", told.to_json())):
                yield
        finally:
            with suppress(MlflowException):  # where nothing was told there is none
                self._client.delete_tag(self.id, TAG + "progress")

    def register(self, model: "keras.Model", name: str, tags: Mapping[str, str], description: str) -> RegisteredVersion:
        """Log a model with the run and register it as a new version of `name`: see `ml.tracking.registry.register`."""
        made = registry.register(model, name, self.id, tags, description)
        self._client.set_terminated(self.id, "RUNNING")
        return made


def log_batch(
    client: "MlflowClient",
    run_id: str,
    points: list[tuple[str, float, int]],
    params: Mapping[str, Any] | None = None,
) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, step) for name, value, step in points]
    settings = [Param(name, str(value)) for name, value in (params or {}).items()]
    client.log_batch(run_id, metrics[:1000], settings)
    for start in range(1000, len(metrics), 1000):
        client.log_batch(run_id, metrics[start : start + 1000])
