import json

import pytest
from jsonschema import ValidationError as InvalidError
from jsonschema import validate
from pydantic import ValidationError

from ml.errors import ParameterError
from ml.params import PRESETS, GanParams, Params, PresetName, RetrainParams, ScoreParams, ValidateParams

EVERY = [ValidateParams, RetrainParams, GanParams, ScoreParams]


@pytest.mark.parametrize("params", EVERY)
def test_defaults_are_valid_and_survive_json(params: type[Params]) -> None:
    assert params.read({}) == params()
    assert params.read(json.loads(params().model_dump_json())) == params()


@pytest.mark.parametrize("params", EVERY)
def test_each_field_of_the_form_has_a_title_a_description_and_a_default(params: type[Params]) -> None:
    form = params.form()
    assert list(form) == list(params.model_fields)
    for name, schema in form.items():
        assert {"title", "description", "default", "type"} <= set(schema), name
        numeric = {"integer", "number"} & set(schema["type"] if isinstance(schema["type"], list) else [schema["type"]])
        assert not numeric or {"minimum", "maximum"} <= set(schema), name
    assert json.loads(json.dumps(form)) == form


def test_values_are_read_and_frozen() -> None:
    params = ValidateParams.read({"folds": 3, "photos": "/zoo", "most_left_out": 1})
    assert (params.folds, params.photos, params.most_left_out, params.emit) == (3, "/zoo", 1.0, False)
    with pytest.raises(ValidationError):
        params.folds = 4


@pytest.mark.parametrize(
    ("params", "values", "says"),
    [
        (ValidateParams, {"folds": 1}, "Param folds: Input should be greater than or equal to 2 (received 1)"),
        (ValidateParams, {"folds": 11}, "folds: Input should be less than or equal to 10 (received 11)"),
        (ValidateParams, {"folds": 2.5}, "folds: Input should be a valid integer"),
        (
            ValidateParams,
            {"most_left_out": 1.1},
            "most_left_out: Input should be less than or equal to 1 (received 1.1)",
        ),
        (ValidateParams, {"most_left_out": float("nan")}, "most_left_out: Input should be"),
        (
            ValidateParams,
            {"fold": 5},
            "Param fold: Extra inputs are not permitted (received 5). Params: photos, folds, ",
        ),
        (RetrainParams, {"seed": -1}, "seed: Input should be greater than or equal to 0 (received -1)"),
        (
            RetrainParams,
            {"seed": 2**31},
            "seed: Input should be less than or equal to 2147483647 (received 2147483648)",
        ),
        (RetrainParams, {"train_negatives": "some"}, "train_negatives: Input should be 'auto', 'balanced' or 'all'"),
        (RetrainParams, {"preset": "fast"}, "preset: Input should be 'quick', 'standard' or 'thorough'"),
        (ValidateParams, {"fold": None}, "Param fold: Extra inputs are not permitted"),
        (RetrainParams, {"augment_copies": "5, 200"}, "augment_copies.1: Input should be less than or equal to 100"),
        (RetrainParams, {"augment_copies": "five"}, "augment_copies.0: Input should be a valid integer"),
        (RetrainParams, {"augment_copies": [5, 0]}, "augment_copies.1: Input should be greater than or equal to 1"),
        (RetrainParams, {"approval_hours": 0}, "approval_hours: Input should be greater than or equal to 0.01"),
        (RetrainParams, {"backbones": ["vgg19"]}, "(received 'vgg19')"),
    ],
)
def test_a_fault_names_the_param_what_was_expected_and_what_was_received(
    params: type[Params], values: dict, says: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        params.read(values)
    assert says in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ParameterError, match=r"folds: .*; smallest_side: .*; colour: "):
        ValidateParams.read({"folds": 0, "smallest_side": 0, "colour": "red"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_settles_what_is_left_open_and_nothing_else(preset: PresetName) -> None:
    settled = RetrainParams(preset=preset).settled()
    assert {name: getattr(settled, name) for name in PRESETS[preset]} == dict(PRESETS[preset])
    assert RetrainParams.read(settled.model_dump()).settled() == settled
    chosen = RetrainParams(preset=preset, tune_mode="off", augment_copies=[], finetune_epochs=0, seed=7).settled()
    assert (chosen.tune_mode, chosen.augment_copies, chosen.finetune_epochs, chosen.seed) == ("off", [], 0, 7)
    assert chosen.backbones == settled.backbones


@pytest.mark.parametrize("params", EVERY)
def test_every_field_may_be_cleared_and_the_default_runs_then(params: type[Params]) -> None:
    cleared = dict.fromkeys(params.model_fields)
    assert params.read(cleared) == params()
    for name, schema in params.form().items():
        assert "anyOf" not in schema, name
        for value in (None, schema["default"]):
            validate(value, schema)


def test_the_form_says_what_an_empty_field_means() -> None:
    form = RetrainParams.form(preset="thorough")
    assert form["preset"]["default"] == "thorough"
    assert form["preset"]["values_display"] == {"null": "thorough (the default)"}
    assert form["baseline_epochs"]["description"].endswith("From 1 to 500. Empty: 20.")
    assert form["augmentations"]["description"].endswith("Empty: mirror, translation, zoom.")
    assert form["tune_trials"]["default"] is form["augment_copies"]["default"] is form["backbones"]["default"] is None
    for name in ("tune_trials", "augment_copies", "backbones"):
        assert "Empty: as the preset says." in form[name]["description"]


def test_a_cleared_field_has_the_default_of_its_dag() -> None:
    values = {"preset": None, "require_approval": None, "seed": 7}
    read = RetrainParams.read(values, preset="quick", require_approval=True)
    assert (read.preset, read.require_approval, read.seed) == ("quick", True, 7)
    assert RetrainParams.read({"preset": "thorough"}, preset="quick").preset == "thorough"


@pytest.mark.parametrize(
    ("value", "copies"),
    [
        ("5, 10, 20", [5, 10, 20]),
        (" 5,100 ", [5, 100]),
        ("5", [5]),
        ([5, 10], [5, 10]),
        ("none", []),
        ([], []),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_copies_are_a_line_of_text_or_a_list(value: object, copies: list[int] | None) -> None:
    validate(value, RetrainParams.form()["augment_copies"])
    read = RetrainParams.read({"augment_copies": value})
    assert read.augment_copies == copies
    assert read.settled().augment_copies == ([5, 10, 20] if copies is None else copies)


@pytest.mark.parametrize(
    "value", ["0", "101", "5, 200", "5,,10", "5,", "five", "5 10", "-5", "²", "1.0", 5, [0], ["5"]]
)
def test_copies_out_of_range_are_refused_before_anything_runs(value: object) -> None:
    with pytest.raises(InvalidError, match="such as 5, 10, 20" if isinstance(value, str) else None):
        validate(value, RetrainParams.form()["augment_copies"])


def test_no_backbone_chosen_is_as_the_preset_says() -> None:
    for value in (None, []):
        assert RetrainParams.read({"backbones": value}).settled().backbones == PRESETS["standard"]["backbones"]


def test_a_gan_ends_with_the_minutes_or_the_steps_or_when_the_preset_says() -> None:
    assert (GanParams().settled().minutes, GanParams().settled().pictures) == (20, 1000)
    assert GanParams(preset="quick", size=32).settled().minutes == 1
    assert GanParams(preset="quick", minutes=7, pictures=30).settled() == GanParams(
        preset="quick", minutes=7, pictures=30
    )
    only_steps = GanParams(steps=50).settled()
    assert (only_steps.steps, only_steps.minutes) == (50, None)
    assert only_steps.settled() == only_steps


@pytest.mark.parametrize("values", [{"size": 48}, {"recipe": "stylegan"}, {"minutes": 0}, {"steps": 0}])
def test_what_no_gan_can_be_is_refused(values: dict) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        GanParams.read(values)
