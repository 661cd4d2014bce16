"""MLflow: runs, pictures, tables, models. The only module that talks to it.

A DAG run is one parent run in its animal's experiment, a stage is its child, a fold or a trial is the stage's child. A
stage that ended well carries its `StageResult`, so that the same work is found again instead of done again.
"""

from ml.tracking.keys import TAG, work_key
from ml.tracking.registry import CHALLENGER, CHAMPION, RegisteredVersion
from ml.tracking.stage_run import StageRun
from ml.tracking.tracker import Tracker

__all__ = ["CHALLENGER", "CHAMPION", "TAG", "RegisteredVersion", "StageRun", "Tracker", "work_key"]
