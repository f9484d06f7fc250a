"""What validation costs an event, against calling the validators themselves.

One order event of about 1 kB with ten lines, as in `reference/PEERS.md` section 5, valid and with
one error in the last line. "direct" is the library called by hand; "parse" what `EventType.parse`
and the plugin do for an event; "send" the plugin's hook for
events that are sent, one of a batch of ten. Rounds
are interleaved; the figure is the CPU time of the best one, which a busy machine disturbs least.
"""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import inngest
import jsonschema
import jsonschema_rs
from figures import figure
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator
from referencing import Registry

from inngest_plugins.core import Send, Stack
from inngest_plugins.validation import EventType, SchemaRegistry, ValidationFailed, ValidationPlugin

ROUNDS = 25
BATCH = 10


class Line(BaseModel):
    """One line of the order."""

    sku: str = Field(pattern=r"^SKU-\d+$")
    title: str
    quantity: int = Field(ge=1)
    unit_price: float
    tags: list[str]


class Customer(BaseModel):
    """Who ordered."""

    id: str
    email: str


class Order(BaseModel):
    """The event's data."""

    order_id: str = Field(min_length=1)
    customer: Customer
    currency: str
    total: float = Field(ge=0)
    lines: list[Line]


class CheckedOrder(Order):
    """The same with a validator of its own, which may change what it is given."""

    @field_validator("currency", mode="before")
    @classmethod
    def upper(cls, value: str) -> str:
        return value.upper()


def order() -> dict[str, Any]:
    lines = [
        {"sku": f"SKU-{i}", "title": f"Item {i}", "quantity": i + 1, "unit_price": 9.5, "tags": []}
        for i in range(10)
    ]
    customer = {"id": "cus_9", "email": "ada@example.com"}
    return {
        "order_id": "ord_1", "customer": customer, "currency": "EUR", "total": 95.0, "lines": lines
    }  # fmt: skip


def bad_order() -> dict[str, Any]:
    data = order()
    data["lines"][-1]["quantity"] = 0
    return data


def quietly(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The call, with the failure of an invalid event caught, as its caller would."""
    failures = (ValidationFailed, ValidationError, jsonschema.ValidationError, ValueError)

    def caught(data: Any) -> None:
        with contextlib.suppress(*failures):
            call(data)

    return caught


def fastest(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds of each call in its best of some interleaved rounds of about 10 ms."""
    loops: dict[str, int] = {}
    for name, call in calls.items():
        call()
        started = time.process_time()
        for _ in range(20):
            call()
        loops[name] = max(5, int(0.01 * 20 / (time.process_time() - started)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            count = range(loops[name])
            started = time.process_time()
            for _ in count:
                call()
            samples[name].append((time.process_time() - started) / len(count) * 1e6)
        gc.collect()
    gc.enable()
    return {name: min(values) for name, values in samples.items()}


def main() -> None:
    document = Order.model_json_schema()
    adapter = TypeAdapter(Order)
    python = jsonschema.Draft202012Validator(document, registry=Registry())
    rust = jsonschema_rs.validator_for(document)
    contenders: list[tuple[str, Callable[[Any], Any], EventType[Any]]] = [
        ("Pydantic", adapter.validate_python, EventType("shop/order", Order)),
        (
            "Pydantic, validator",
            TypeAdapter(CheckedOrder).validate_python,
            EventType("shop/order", CheckedOrder),
        ),
        ("jsonschema", python.validate, EventType("shop/order", document, engine="jsonschema")),
        ("jsonschema-rs", rust.validate, EventType("shop/order", document, engine="jsonschema-rs")),
    ]
    client = inngest.Inngest(app_id="bench", is_production=False)
    print(f"an event of {len(json.dumps(order()))} bytes; us an event")
    print(f"{'':19} {'':8} {'direct':>9} {'parse':>9} {'ratio':>7} {'send':>9} {'ratio':>7}")
    for name, direct, event_type in contenders:
        registry = SchemaRegistry([event_type])
        plugin = ValidationPlugin(registry)
        for what, data in (("valid", order()), ("1 error", bad_order())):
            event = inngest.Event(name="shop/order", data=data)
            send = Send([event] * BATCH, call=None, step=None, client=client, stack=Stack(plugin))
            tried, validated = quietly(direct), quietly(registry.validate)
            sent = quietly(plugin.before_send_events)
            found = fastest(
                {
                    "direct": partial(tried, data),
                    "parse": partial(validated, event),
                    "send": partial(sent, send),
                }
            )
            base = found["direct"]
            figure(f"{name}, {what}: `parse` / the library itself", found["parse"] / base)
            found["send"] /= BATCH
            cells = [f"{found[way]:9.2f} {found[way] / base:6.2f}x" for way in ("parse", "send")]
            print(f"{name:19} {what:8} {base:9.2f} {' '.join(cells)}")


if __name__ == "__main__":
    main()
