"""The choices of `gan_<animal>`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field

from ml.params.base import FORCE, Params
from ml.presets import PresetName

RecipeName = Literal["imle", "dcgan"]
Size = Literal[32, 64, 128]

MINUTES: Mapping[PresetName, Mapping[Size, float]] = MappingProxyType(
    {
        "quick": {32: 1.0, 64: 2.0, 128: 8.0},
        "standard": {32: 5.0, 64: 20.0, 128: 60.0},
        "thorough": {32: 15.0, 64: 60.0, 128: 240.0},
    }
)
"""How long each preset trains pictures of each size, unless told otherwise."""
PICTURES: Mapping[PresetName, int] = MappingProxyType({"quick": 200, "standard": 1000, "thorough": 1000})
"""How many pictures each preset judges, unless told otherwise."""


class GanParams(Params):
    """Choices of `gan_<animal>`. Those that are empty are settled by the preset: see `settled`."""

    preset: PresetName = Field(
        "standard",
        title="Preset",
        description="How long it trains, if that is left empty below. At 64 pixels quick is 2 minutes, "
        "standard 20, thorough an hour; at 32 pixels less, at 128 three or four times as long.",
    )
    size: Size = Field(
        64,
        title="Size of the pictures",
        description="Side in pixels of the square pictures that it draws. Larger ones show more, and take longer.",
        json_schema_extra={"minimum": 32, "maximum": 128},
    )
    recipe: RecipeName = Field(
        "imle",
        title="Recipe",
        description="imle: learns to come close to each photo, guided by a network that knows photos already; it "
        "works with few photos. dcgan: the classical one, which learns from nothing but your photos; for comparison.",
    )
    minutes: float | None = Field(
        None,
        ge=0.05,
        le=2880,
        title="Minutes",
        description="Time to train. What a try that was interrupted has used counts. Empty: as the preset says, or "
        "without limit if the steps are given.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        title="Steps",
        description="Changes to the network after which it stops, if the minutes are not over before. Empty: no limit.",
    )
    pictures: int | None = Field(
        None,
        ge=10,
        le=10_000,
        title="Pictures to judge",
        description="How many of its pictures the classifiers judge. Empty: as the preset says, 200 or 1,000.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="Another seed gives another GAN from the same photos. With the steps given, the same seed gives "
        "the same one again.",
    )
    force: bool = FORCE

    def settled(self) -> Self:
        """Return these choices with what is left to the preset filled in; minutes only if there are no steps either."""
        update: dict[str, Any] = {} if self.pictures else {"pictures": PICTURES[self.preset]}
        if self.minutes is None and self.steps is None:
            update["minutes"] = MINUTES[self.preset][self.size]
        return self.model_copy(update=update)
