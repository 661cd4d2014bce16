"""What a person may choose when triggering a DAG: one definition for the form, the terminal, REST and the stages."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import ParameterError


class Params(BaseModel):
    """Frozen, typed, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the params that `values` give.

        Raises:
            ParameterError: a key is unknown or a value is out of its range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (received {fault['input']!r})"
                for fault in error.errors()
            )
            raise ParameterError(f"Param {faults}. Params: {', '.join(cls.model_fields)}.") from error

    @classmethod
    def form(cls) -> dict[str, dict[str, Any]]:
        """Return, for each param, its JSON schema with title, description, bounds and default."""
        return cls.model_json_schema()["properties"]


class ValidateParams(Params):
    """Choices of `validate_images`."""

    photos: str = Field(
        "",
        title="Photo folder",
        description="Root of the photo folders, as the workers see it. Empty: the folder Menagerie was started with.",
    )
    folds: int = Field(
        5,
        ge=2,
        le=10,
        title="Folds",
        description="Parts for cross-validation. Photos keep their part for as long as this number stays.",
    )
    smallest_side: int = Field(
        32, ge=8, le=1024, title="Smallest side", description="Photos with a side of fewer pixels are left out."
    )
    fewest_photos: int = Field(
        10,
        ge=2,
        le=100_000,
        title="Fewest photos",
        description="Photos that each animal and its others must have at least.",
    )
    most_left_out: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Most left out",
        description="Share of photos that may be left out before validation fails.",
    )
    emit: bool = Field(
        False, title="Retrain in any case", description="Announce every dataset that passes, even if nothing changed."
    )


BackboneName = Literal[
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "MobileNet025",
    "MobileNet",
    "MobileNetV2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
]


class RetrainParams(Params):
    """Choices of `retrain_<animal>`."""

    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same numbers again.")
    train_negatives: Literal["auto", "balanced", "all"] = Field(
        "auto",
        title="Negatives to train on",
        description="auto: balanced (as many as positives, drawn evenly over their classes) for networks trained from "
        "scratch, all for pretrained ones.",
    )
    baseline_epochs: int = Field(
        30, ge=1, le=500, title="Baseline: epochs", description="Passes over the training photos of the small network."
    )
    backbones: list[BackboneName] = Field(
        ["EfficientNetLite0"],
        min_length=1,
        title="Pretrained networks",
        description="Each gives one candidate, and the average of several is one more. EfficientNetLite0 is always "
        "here; one whose weights are neither here nor to be downloaded is skipped.",
        json_schema_extra={"examples": list(get_args(BackboneName))},
    )
    map_photos: int = Field(
        1000, ge=20, le=20_000, title="Photos on the t-SNE map", description="All of the animal, others drawn evenly."
    )
    force: bool = Field(
        False,
        title="Compute again",
        description="Don't reuse what an earlier run found for the same photos and settings.",
    )
