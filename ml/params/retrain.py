"""The choices of `retrain_<animal>`, and the presets that settle what is left open."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from ml.params.base import FORCE, Params
from ml.presets import PresetName

BackboneName = Literal[
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetV2B0",
    "EfficientNetV2S",
    "MobileNet025",
    "MobileNet",
    "MobileNetV2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
]
AugmentationName = Literal[
    "mirror",
    "rotation",
    "translation",
    "zoom",
    "shear",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "randaugment",
    "mixup",
    "cutmix",
]

AS_PRESET = "Empty: as the preset says."
PRESETS: Mapping[PresetName, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            "tune_mode": "once",
            "tune_trials": 3,
            "tune_minutes": 2.0,
            "tune_epochs": 15,
            "regularise": "no",
            "augment_copies": [],
            "class_epochs": 0,
            "backbones": ["EfficientNetLite0"],
            "finetune_epochs": 0,
        },
        "standard": {
            "tune_mode": "nested",
            "tune_trials": 6,
            "tune_minutes": 8.0,
            "tune_epochs": 12,
            "regularise": "yes",
            "augment_copies": [5, 10, 20],
            "class_epochs": 8,
            "backbones": ["EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"],
            "finetune_epochs": 8,
        },
        "thorough": {
            "tune_mode": "nested",
            "tune_trials": 40,
            "tune_minutes": 240.0,
            "tune_epochs": 30,
            "regularise": "yes",
            "augment_copies": [5, 10, 20, 40],
            "class_epochs": 40,
            "backbones": list(get_args(BackboneName)),
            "finetune_epochs": 30,
        },
    }
)
"""What each preset sets; what is chosen in the form goes first."""

ONE_COPY = "(100|[1-9][0-9]?)"


def _read_copies(value: Any) -> Any:
    """Return the numbers in a text such as `5, 10, 20`; none for `none`; anything else as it is."""
    if not isinstance(value, str):
        return value
    if not (text := value.strip()):
        return None
    return [] if text == "none" else [part.strip() for part in text.split(",")]


Copies = Annotated[
    list[Annotated[int, Field(ge=1, le=100)]] | None,
    BeforeValidator(_read_copies),
    # The form has a line of text, which can be empty, as a list can't; JSON may have the list.
    WithJsonSchema(
        {
            "type": ["string", "array", "null"],
            "pattern": rf"^\s*(none|{ONE_COPY}(\s*,\s*{ONE_COPY})*)?\s*$",
            "items": {"type": "integer", "minimum": 1, "maximum": 100},
            "examples": ["5, 10, 20", "none"],
        }
    ),
]

# Sections of the form.
SCRATCH: dict[str, Any] = {"section": "Networks from scratch"}
PRETRAINED: dict[str, Any] = {"section": "Pretrained networks"}
CHAMPION: dict[str, Any] = {"section": "The champion"}


class RetrainParams(Params):
    """Choices of `retrain_<animal>`. Those that are empty or `auto` are settled by the preset: see `settled`."""

    preset: PresetName = Field(
        "standard",
        title="Preset",
        description="How much is tried. quick: minutes. standard: half an hour on two cores. thorough: over "
        "night. It settles what is left empty or at auto below.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same numbers again.")
    train_negatives: Literal["auto", "balanced", "all"] = Field(
        "auto",
        title="Negatives to train on",
        description="auto: balanced (as many as positives, drawn evenly over their classes) for networks trained from "
        "scratch, all for pretrained ones.",
    )
    map_photos: int = Field(
        1000, ge=20, le=20_000, title="Photos on the t-SNE map", description="All of the animal, others drawn evenly."
    )
    force: bool = FORCE
    baseline_epochs: int = Field(
        20,
        ge=1,
        le=500,
        title="Baseline: epochs",
        description="Passes over the training photos of the small network.",
        json_schema_extra=SCRATCH,
    )
    tune_mode: Literal["auto", "nested", "once", "off"] = Field(
        "auto",
        title="Search: where",
        description="nested: a search inside each fold, so that the accuracy is honest. once: one search on all "
        "photos, much less work, and an optimistic accuracy. auto: as the preset says.",
        json_schema_extra=SCRATCH,
    )
    tune_strategy: Literal["random+grid", "random", "hyperband", "bayesian"] = Field(
        "random+grid",
        title="Search: strategy",
        description="random+grid: random search, then a grid around the best.",
        json_schema_extra=SCRATCH,
    )
    tune_trials: int | None = Field(
        None,
        ge=1,
        le=1000,
        title="Search: trials",
        description=f"Configurations that each search tries at most. {AS_PRESET}",
        json_schema_extra=SCRATCH,
    )
    tune_minutes: float | None = Field(
        None,
        ge=0.1,
        le=1440,
        title="Search: minutes",
        description=f"After this time no new trial starts. {AS_PRESET}",
        json_schema_extra=SCRATCH,
    )
    tune_epochs: int | None = Field(
        None,
        ge=1,
        le=500,
        title="Search: epochs",
        description=f"Passes over the training photos in a trial. {AS_PRESET}",
        json_schema_extra=SCRATCH,
    )
    regularise: Literal["auto", "yes", "no"] = Field(
        "auto",
        title="Compare regularisations",
        description="The tuned network with dropout, batch normalisation, L2, and every combination. auto: as the "
        "preset says.",
        json_schema_extra=SCRATCH,
    )
    augment_copies: Copies = Field(
        None,
        title="Augmented copies",
        description="How often an epoch shows each training photo, changed in another way each time: whole numbers "
        "from 1 to 100 with commas between them, such as 5, 10, 20. Each gives a candidate. none: no copies. "
        f"{AS_PRESET}",
        json_schema_extra=SCRATCH,
    )
    class_epochs: int | None = Field(
        None,
        ge=0,
        le=500,
        title="Told every class: epochs",
        description="Passes over all photos, changed anew each time, in which the network found learns to tell all "
        f"classes apart. 0: none. {AS_PRESET}",
        json_schema_extra=SCRATCH,
    )
    augmentations: list[AugmentationName] = Field(
        ["mirror", "translation", "zoom"],
        min_length=1,
        title="Augmentations",
        description="How the copies are changed. mixup and cutmix blend two photos.",
        json_schema_extra={"examples": list(get_args(AugmentationName)), **SCRATCH},
    )
    backbones: Annotated[list[BackboneName] | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        title="Pretrained networks",
        description="Each gives one candidate, and the average of several is one more. The EfficientNetLite are "
        f"always here; one whose weights are neither here nor to be downloaded is skipped. {AS_PRESET}",
        json_schema_extra={"examples": list(get_args(BackboneName)), **PRETRAINED},
    )
    finetune_epochs: int | None = Field(
        None,
        ge=0,
        le=200,
        title="Fine-tuning: epochs",
        description="Passes over the photos of the animal, each with six times as many of the others, which take "
        "turns; in them the top of the best pretrained network is trained too. It is trained twice, and the weights "
        f"are averaged. 0: none. {AS_PRESET}",
        json_schema_extra=PRETRAINED,
    )
    require_approval: bool = Field(
        False,
        title="Ask before promoting",
        description="A new model becomes champion only after a person has approved it: see Required Actions. Its "
        "numbers stand there beside the champion's.",
        json_schema_extra=CHAMPION,
    )
    approval_hours: float = Field(
        72,
        ge=0.01,
        le=720,
        title="Ask: hours to answer",
        description="If nobody has answered until then the champion stays, and the next retraining asks again.",
        json_schema_extra=CHAMPION,
    )

    def settled(self) -> Self:
        """Return these choices with what is left to the preset filled in."""
        defaults = type(self).model_fields
        left = {
            name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) == defaults[name].default
        }
        return self.model_copy(update=left)
