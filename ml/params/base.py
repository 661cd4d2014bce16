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
        return {name: _flat(schema) for name, schema in cls.model_json_schema()["properties"].items()}


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that may be null as Airflow's form understands it: one schema of two types."""
    if "anyOf" not in schema:
        return schema
    value, _ = schema["anyOf"]
    kept = {key: content for key, content in schema.items() if key != "anyOf"}
    return {**kept, **value, "type": [value["type"], "null"]}
