"""What the choices of every DAG share: typed, bounded, closed, and their form."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import ParameterError

FORCE = Field(
    False,
    title="Compute again",
    description="Don't reuse what an earlier run found for the same photos and settings.",
)
"""The param `force`, of the DAGs that train."""


class Params(BaseModel):
    """Frozen, typed, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @classmethod
    def read(cls, values: Mapping[str, Any], **defaults: Any) -> Self:
        """Return the params that `values` give; one that is missing or null has its default, or that of `defaults`.

        Airflow's form sends null for what was cleared.

        Raises:
            ParameterError: a key is unknown or a value is out of its range.
        """
        given = {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}
        try:
            return cls(**(defaults | given))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (received {fault['input']!r})"
                for fault in error.errors()
            )
            raise ParameterError(f"Param {faults}. Params: {', '.join(cls.model_fields)}.") from error

    @classmethod
    def form(cls, **defaults: Any) -> dict[str, dict[str, Any]]:
        """Return, for each param, its JSON schema with title, description, bounds and default: that of `defaults`, if
        it has one.

        Each may be null too, and the form says what it is then.
        """
        properties = cls.model_json_schema()["properties"]
        return {name: _nullable(schema | _default(defaults, name)) for name, schema in properties.items()}


def _default(defaults: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"default": defaults[name]} if name in defaults else {}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes null, in the words that Airflow's form understands: one schema of several types.

    A type without null would be a field that must not be empty: the form can't be sent while it is.
    """
    value, default = schema.get("anyOf", [{}])[0], schema["default"]
    flat = {key: content for key, content in schema.items() if key != "anyOf"} | value
    types = flat["type"] if isinstance(flat["type"], list) else [flat["type"]]
    flat["type"] = [*types, *({"null"} - {*types})]
    if choices := flat.get("enum"):
        # A choice that was cleared: the form shows this text then.
        flat |= {"enum": [*choices, None], "values_display": {"null": f"{default} (the default)"}}
    flat["description"] = " ".join([flat["description"], *_remarks(flat, default)])
    return flat


def _remarks(schema: dict[str, Any], default: Any) -> list[str]:
    """Return what the form says of a field's range, and of its value when it is left empty, unless the field does."""
    remarks = []
    if "enum" not in schema and "minimum" in schema:
        remarks.append(f"From {schema['minimum']:,} to {schema['maximum']:,}.")
    if default not in (None, "") and {"integer", "number", "array"} & {*schema["type"]} and "enum" not in schema:
        remarks.append(f"Empty: {', '.join(default) if isinstance(default, list) else f'{default:,}'}.")
    return remarks
