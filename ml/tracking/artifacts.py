"""Files that earlier runs left in MLflow. Anybody may have deleted or changed them since: what is gone is said so."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ml.errors import LostError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo
    from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)


def is_gone(error: "MlflowException") -> bool:
    """Return whether MLflow says that there is no such thing, rather than that it can't answer now."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def contents(client: "MlflowClient", run_id: str, folder: str = "") -> dict[str, int]:
    """Return the sizes in bytes of all files of a run below `folder`, by path; none if the run is gone."""
    listed = _listed(client, run_id, folder)
    sizes = {file.path: int(file.file_size or 0) for file in listed if not file.is_dir}
    for file in listed:
        if file.is_dir:
            sizes |= contents(client, run_id, file.path)
    return sizes


def download(client: "MlflowClient", run_id: str, path: str, folder: str) -> Path:
    """Bring a file of a run into a local folder, and return where it is.

    Raises:
        LostError: the run or its file is gone.
    """
    if not any(file.path == path and not file.is_dir for file in _listed(client, run_id, path.rpartition("/")[0])):
        raise LostError(f"MLflow run {run_id} no longer has the file {path}: it was deleted, or the whole run was.")
    return Path(client.download_artifacts(run_id, path, folder))


def _listed(client: "MlflowClient", run_id: str, folder: str) -> list["FileInfo"]:
    """Return what lies in one folder of a run; nothing if the run is gone."""
    from mlflow.exceptions import MlflowException

    try:
        return list(client.list_artifacts(run_id, folder or None))
    except MlflowException as error:
        if is_gone(error):
            return []
        raise
