import json

import pytest
from pydantic import ValidationError

from ml.errors import ParameterError
from ml.params import PRESETS, GanParams, Params, PresetName, RetrainParams, ValidateParams


@pytest.mark.parametrize("params", [ValidateParams, RetrainParams, GanParams])
def test_defaults_are_valid_and_survive_json(params: type[Params]) -> None:
    assert params.read({}) == params()
    assert params.read(json.loads(params().model_dump_json())) == params()


@pytest.mark.parametrize("params", [ValidateParams, RetrainParams, GanParams])
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
        (ValidateParams, {"folds": None}, "folds: Input should be a valid integer (received None)"),
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


def test_what_may_be_left_empty_is_so_in_the_form() -> None:
    form = RetrainParams.form()
    assert form["tune_trials"]["type"] == ["integer", "null"]
    assert form["tune_trials"]["default"] is None
    assert "anyOf" not in str(form)


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
