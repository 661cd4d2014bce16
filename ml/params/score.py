"""The choices of `score_images`."""

from typing import Any

from pydantic import Field

from ml.params.base import Params

DRIFT: dict[str, Any] = {"section": "Drift"}


class ScoreParams(Params):
    """Choices of `score_images`, and of `menagerie score`."""

    photos: str = Field(
        "",
        title="Folder of new photos",
        description="As the workers see it, or its URL (s3://bucket/folder); folders in it are read too. Empty: some "
        "photos of the folder Menagerie was started with.",
    )
    most_photos: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        title="Most photos",
        description="If the folder has more, so many are drawn at random. Empty: all; of the folder Menagerie was "
        "started with, 500.",
    )
    prevalence: float | None = Field(
        None,
        ge=0.0001,
        le=0.99,
        title="Prevalence",
        description="Share of the photos that show the animal, if you know it: 0.02 is 2 in 100. A photo is found if "
        "it is then more likely to show the animal than not. Empty: found from a probability of 0.5, and the share is "
        "estimated from the scores.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="The same seed draws the same photos again.")
    drift_distance: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Distance",
        description="How far from the training photos is a drift, if more photos are unlike any training photo than "
        "chance explains. 0 is no difference; stronger compression makes about 0.1, photos at night or of another "
        "source 0.3 to 0.5, hardly anything more.",
        json_schema_extra=DRIFT,
    )
    drift_level: float = Field(
        0.01,
        ge=0.001,
        le=0.5,
        title="False alarms",
        description="Share of the scorings with photos just like the training photos in which a drift may be seen.",
        json_schema_extra=DRIFT,
    )
    validate_on_drift: bool = Field(
        False,
        title="Ask for validation",
        description="Start validate_images if the photos have drifted: if the photo folder has changed, the "
        "retraining follows.",
        json_schema_extra=DRIFT,
    )
