"""What names a piece of work, so that the same work is found again, and what its run tells of how it was done."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml import fingerprint
from ml.precision import precision_of_cpu

TAG = "menagerie."
STAGES = "ml.stages"


def work_key(stage: str, digest: str, params: Mapping[str, Any], code: str) -> str:
    """Return the 16 hex digits that name a stage's work: its dataset, its settings and the code that computes it.

    `code` is what `ml.fingerprint.of` says of the modules that do the work.
    """
    content = json.dumps([stage, digest, dict(params), code], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def run_key(digest: str, params: Mapping[str, Any]) -> str:
    """Return what names the work of a whole DAG run: its dataset, its choices, the code and the precision here."""
    choices = {name: value for name, value in params.items() if name != "force"}
    return work_key("run", digest, choices | {"precision": precision_of_cpu()}, fingerprint.of(STAGES))


def provenance(module: str) -> dict[str, str]:
    """Return the tags that tell how a run came about: the code of `module`, its libraries, the lock, the commit."""
    versions = fingerprint.libraries(module)
    tags = {
        TAG + "code": fingerprint.of(module),
        TAG + "libraries": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    if lock := fingerprint.lock():
        tags[TAG + "lock"] = lock
    if commit := fingerprint.commit():
        name, is_dirty = commit
        tags |= {"mlflow.source.git.commit": name, "mlflow.source.git.dirty": str(is_dirty).lower()}
    return tags
