"""Values of a type that Pydantic knows, as JSON: nothing in them becomes something else."""

from __future__ import annotations

import math
from typing import Any

import pydantic
import pytest

from inngest_plugins.core import TypedJson, TypedJsonError


class Progress(pydantic.BaseModel):
    """A model with a field of any type."""

    note: Any = None
    done: float | None = None


class Written(pydantic.BaseModel, ser_json_inf_nan="strings"):
    """A model that says how such numbers are written."""

    done: float = 0.0


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Any, math.nan),
        (dict[str, Any], {"a": {"b": [1, math.inf]}}),
        (dict, {"a": (None, -math.inf)}),
        (Progress, Progress(note={"of": math.nan})),
        (Progress, {"note": [math.nan]}),
        (Progress, Progress(done=math.nan)),
        (list[Any], [None, {math.inf}]),
    ],
)
def test_a_number_that_json_lacks_is_refused(type_: Any, value: object) -> None:
    """Where the type is open, too: it would have been read as null."""
    with pytest.raises(TypedJsonError, match=r"^\$: a value is NaN or an infinity"):
        TypedJson(type_).write(value)


@pytest.mark.parametrize(
    ("type_", "value", "written"),
    [
        (Any, None, None),
        (dict[str, Any], {"a": None, "b": [None, 1.5], "c": {}}, None),
        (
            Progress,
            Progress(note={1: None, 2: {"x": None}}),
            {"note": {"1": None, "2": {"x": None}}},
        ),
        (Written, Written(done=math.inf), {"done": "Infinity"}),
        (list[Any], [None, (1.5, None)], [None, [1.5, None]]),
    ],
)
def test_nulls_and_written_numbers_stay(type_: Any, value: object, written: Any) -> None:
    """None is null, and a type may write such numbers in words."""
    document = TypedJson(type_).write(value)
    if isinstance(written, dict):
        assert document.items() >= written.items()
    else:
        assert document == (value if written is None else written)
