"""What a person may choose when triggering a DAG: one definition for the form, the terminal, REST and the stages."""

from ml.params.base import Params
from ml.params.gan import GanParams, RecipeName
from ml.params.retrain import PRESETS, AugmentationName, BackboneName, RetrainParams
from ml.params.score import ScoreParams
from ml.params.validate import ValidateParams
from ml.presets import PresetName

__all__ = [
    "PRESETS",
    "AugmentationName",
    "BackboneName",
    "GanParams",
    "Params",
    "PresetName",
    "RecipeName",
    "RetrainParams",
    "ScoreParams",
    "ValidateParams",
]
