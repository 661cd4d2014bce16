"""What a person may choose when triggering a DAG: one definition for the form, the terminal, REST and the stages."""

from ml.params.base import Params
from ml.params.retrain import PRESETS, AugmentationName, BackboneName, PresetName, RetrainParams
from ml.params.validate import ValidateParams

__all__ = ["PRESETS", "AugmentationName", "BackboneName", "Params", "PresetName", "RetrainParams", "ValidateParams"]
