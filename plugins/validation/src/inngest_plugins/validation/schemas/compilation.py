"""Compiles every kind of schema that a user may give."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

from .pydantic_schema import PydanticSchema
from .schema import SUFFIXES, CompiledSchema, EngineName, SchemaError, Secrets


def compile_schema(
    schema: object, *, where: str, engine: EngineName = "auto", secrets: Secrets = "refuse"
) -> CompiledSchema[Any]:
    """Compile a schema of any kind.

    Args:
        schema: A Pydantic model, a TypeAdapter or anything it takes, a JSON Schema as a dict, or
            the path of a `.json` or `.yaml` file with one.
        where: What it is for, to begin error messages with.
        engine: Which JSON Schema engine to use.
        secrets: Whether secrets may be written in full.

    Raises:
        SchemaError: It is none of these, or wrong.
    """
    if isinstance(schema, CompiledSchema):
        compiled: CompiledSchema[Any] = schema
        return compiled
    if isinstance(schema, Mapping | bool):
        from .json_schema import JsonSchema

        contents = cast("Mapping[str, Any] | bool", schema)
        return JsonSchema(contents, where=where, engine=engine)
    if isinstance(schema, str):
        if not schema.endswith(SUFFIXES):
            msg = f"{where}: {schema!r} is no schema: a string is the path of a .json or .yaml file"
            raise SchemaError(msg)
        schema = Path(schema)
    if isinstance(schema, PathLike):
        from .documents import read_schema
        from .json_schema import JsonSchema

        contents = read_schema(Path(cast("PathLike[str]", schema)))
        return JsonSchema(contents, where=f"{where} ({schema})", engine=engine)
    if schema is None:
        msg = f"{where}: None is no schema (for the JSON value null, use type(None))"
        raise SchemaError(msg)
    return PydanticSchema[Any](schema, where=where, secrets=secrets)
