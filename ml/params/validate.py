"""The choices of `validate_images`."""

from pydantic import Field

from ml.params.base import Params


class ValidateParams(Params):
    """Choices of `validate_images`."""

    photos: str = Field(
        "",
        title="Photo folder",
        description="Root of the photo folders, as the workers see it, or its URL (s3://bucket/folder). Empty: the one "
        "Menagerie was started with.",
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
