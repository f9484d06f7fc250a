"""What type checkers infer of event types. Checked by mypy and pyright, never run."""

import dataclasses
from pathlib import Path
from typing import Any

import inngest
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict, assert_type

from inngest_plugins.validation import (
    EventType,
    SchemaRegistry,
    ValidationFailed,
    ValidationPlugin,
    Violation,
)


class Order(BaseModel):
    id: str


class Refund(BaseModel):
    id: str


class Typed(TypedDict):
    id: str


@dataclasses.dataclass
class Plain:
    id: str


order = EventType("shop/order", Order)
typed = EventType("shop/typed", Typed)
plain = EventType("shop/plain", Plain)
adapted = EventType("shop/adapted", TypeAdapter(list[int]))
schema = EventType("shop/schema", {"type": "object"})
file = EventType("shop/file", Path("order.json"))
union = EventType[Order | Refund]("shop/union", Order | Refund)

assert_type(order, EventType[Order])
assert_type(typed, EventType[Typed])
assert_type(plain, EventType[Plain])
assert_type(schema, EventType[dict[str, Any]])
assert_type(file, EventType[dict[str, Any]])


def handler(ctx: inngest.Context, failure: ValidationFailed) -> None:
    """The parsed object has the schema's type."""
    assert_type(order.parse(ctx.event), Order)
    assert_type(typed.parse(ctx.event), Typed)
    assert_type(plain.parse(ctx.event), Plain)
    assert_type(adapted.parse(ctx.event), list[int])
    assert_type(schema.parse(ctx.event), dict[str, Any])
    assert_type(file.parse({"name": "shop/file"}), dict[str, Any])
    assert_type(union.parse(ctx.event), Order | Refund)
    assert_type(order.parse(ctx.event.data["event"]), Order)
    assert_type(union.parse(ctx.event.data["event"]), Order | Refund)
    assert_type(order.trigger(), inngest.TriggerEvent)
    assert_type(order.new(Order(id="a")), inngest.Event)
    assert_type(order.new({"id": "a"}, id="e", ts=1), inngest.Event)
    assert_type(failure.errors, tuple[Violation, ...])


ValidationPlugin([order, typed, plain, schema, union])
ValidationPlugin({"a": Order, "b": {"type": "object"}, "c": Order | Refund})
ValidationPlugin(SchemaRegistry([order]), outputs={"f": Order}, steps={("f", "s"): int})

order.new(Refund(id="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
order.new(Order(id="a"), id=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ValidationPlugin(on_invalid="skip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
