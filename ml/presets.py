"""The names of the presets: how much a retraining or the training of a GAN tries."""

from typing import Literal

PresetName = Literal["quick", "standard", "thorough"]
