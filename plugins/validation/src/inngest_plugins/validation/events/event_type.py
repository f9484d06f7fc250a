"""`EventType`: one typed definition of an event; and events whose secrets must be encrypted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, Generic, TypeVar, cast, overload

import inngest
from pydantic import PrivateAttr, TypeAdapter

from inngest_plugins.core import ArgumentError, Call
from inngest_plugins.validation.schemas.compilation import compile_schema
from inngest_plugins.validation.schemas.schema import (
    CompiledSchema,
    EngineName,
    Rejection,
    SchemaError,
    Secrets,
    ValidationFailed,
    check_secrets,
)

from .payloads import PARSED, is_pattern, matches_name, payload_of

T = TypeVar("T")

_SCALARS = frozenset({"array", "boolean", "integer", "null", "number", "string"})


class EventType(Generic[T]):
    """An event's name and the schema of its data, checked when it is defined.

    The one definition serves senders (`new`), functions (`trigger`, `parse`), and the
    `ValidationPlugin`, which holds every event to it.

    Args:
        name: The event's name; as a trigger it may end in a wildcard, such as "shop/order.*".
        schema: A Pydantic model, anything `pydantic.TypeAdapter` takes (TypedDict, dataclass,
            union, Annotated), a TypeAdapter, a JSON Schema as a dict, or the path of a `.json` or
            `.yaml` file that holds one. Write `EventType[A | B]("name", A | B)` where a type
            checker does not infer a union.
        engine: The JSON Schema engine: "jsonschema", "jsonschema-rs", or "auto" for the second
            where it is installed. Of no effect for Pydantic types.
        secrets: What `new` does with `SecretStr` and other secrets: "refuse" them, as their JSON
            form hides them; or, with "encrypted", carry them in full. Such an event leaves
            through a client with a `ValidationPlugin` and a plugin that encrypts the field, or
            not at all.

    Raises:
        SchemaError: The schema is wrong, or is not one of an object, which event data always is.

    Example:
        ```python
        order_placed = EventType("shop/order.placed", Order)

        await client.send(order_placed.new(Order(id="o-1", lines=[])))

        @client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
        async def fulfil(ctx: inngest.Context) -> None:
            order = order_placed.parse(ctx.event)  # an Order
        ```
    """

    @overload
    def __init__(
        self, name: str, schema: type[T], *, engine: EngineName = ..., secrets: Secrets = ...
    ) -> None: ...
    @overload
    def __init__(
        self, name: str, schema: TypeAdapter[T], *, engine: EngineName = ..., secrets: Secrets = ...
    ) -> None: ...
    @overload
    def __init__(
        self: EventType[dict[str, Any]],
        name: str,
        schema: Mapping[str, Any] | str | PathLike[str],
        *,
        engine: EngineName = ...,
        secrets: Secrets = ...,
    ) -> None: ...
    @overload
    def __init__(
        self, name: str, schema: Any, *, engine: EngineName = ..., secrets: Secrets = ...
    ) -> None: ...
    def __init__(
        self, name: str, schema: Any, *, engine: EngineName = "auto", secrets: Secrets = "refuse"
    ) -> None:
        if not name or not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"an event type needs a name, not {name!r}"
            raise SchemaError(msg)
        check_secrets(secrets)
        self.name = name
        self.compiled = cast(
            "CompiledSchema[T]",
            compile_schema(schema, where=f"event {name}", engine=engine, secrets=secrets),
        )
        _refuse_other_than_objects(name, self.compiled)

    @classmethod
    def of(cls, name: str, compiled: CompiledSchema[T]) -> EventType[T]:
        """An event type from a schema that is compiled already."""
        return cls(name, compiled)

    def new(self, data: T | Mapping[str, Any], *, id: str = "", ts: int = 0) -> inngest.Event:  # noqa: A002
        """Build an event whose data satisfies the schema.

        Args:
            data: An object of the schema's type, or its JSON form, which is completed with the
                defaults of the type.
            id: The event's id, by which the engine drops duplicates; "" has it make one.
            ts: When it happened, in milliseconds since 1970; 0 for now.

        Raises:
            ValidationFailed: The data breaks the schema, or its JSON form does not say all of it.
            ArgumentError: The name is a pattern; events have one name.
        """
        if is_pattern(self.name):
            msg = f"{self.name!r} is a pattern: an event needs a name of its own"
            raise ArgumentError(msg)
        try:
            # A built object is checked by way of its JSON form: it may have been changed since it
            # was built, or built without validation.
            parsed = self.compiled.parse(data) if isinstance(data, Mapping) else data
            json_form = self.compiled.dump(parsed)
            rejection = None if isinstance(json_form, dict) else Rejection.of("type", "an object")
        except Rejection as found:
            rejection, json_form = found, None
        if rejection is not None:
            raise rejection.failure(f"event {self.name}", "outgoing")
        fields = {str(path[0]) for path in self.compiled.secret_fields if path} & {
            "*",
            *(json_form or ()),
        }
        return event_with_secrets(
            inngest.Event(name=self.name, data=cast("Any", json_form), id=id, ts=ts), fields
        )

    def parse(self, event: object) -> T:
        """The event's data as the schema's type.

        In a run whose events the `ValidationPlugin` has validated by this schema it is the object
        that validation made; otherwise the data is parsed now.

        Args:
            event: The event, or its JSON form, such as `ctx.event.data["event"]` in an
                `on_failure` handler (which type checkers know as a JSON value only). Of an event
                made by `step.invoke` it is the data that the caller passed.

        Raises:
            ValidationFailed: The data breaks the schema, the event is another one, or the
                argument is not an event at all.
        """
        if isinstance(event, inngest.Event):
            call = Call.current()
            parsed = None if call is None else call.get(PARSED)
            if parsed is not None:
                found = parsed.find(event, self.compiled)
                if found is not None:
                    return cast("T", found.value)
        try:
            name, data = _parts_of(event)
            if not name.startswith("inngest/") and not matches_name(self.name, name):
                raise Rejection.of("name", f"an event named {self.name}")
            payload = payload_of(name, data) if isinstance(data, Mapping) else data
            return self.compiled.parse(payload)
        except Rejection as found:
            rejection = found
        raise rejection.failure(f"event {self.name}", "incoming")

    def trigger(self, expression: str | None = None) -> inngest.TriggerEvent:
        """The trigger for `create_function`.

        Args:
            expression: A CEL expression over `event` that must hold as well.
        """
        return inngest.TriggerEvent(event=self.name, expression=expression)

    def __repr__(self) -> str:
        return f"EventType({self.name!r}, {self.compiled!r})"


def _parts_of(event: object) -> tuple[str, object]:
    """The name and the data of an event or its JSON form."""
    if isinstance(event, inngest.Event):
        return event.name, event.data
    if isinstance(event, Mapping):
        fields = cast("Mapping[str, object]", event)
        return str(fields.get("name", "")), fields.get("data") or {}
    expected = f"an inngest.Event, or its JSON form as a mapping, not {type(event).__name__}"
    raise Rejection.of("event", expected)


def _refuse_other_than_objects(name: str, compiled: CompiledSchema[Any]) -> None:
    try:
        document = compiled.json_schema()
    except Exception:
        return
    declared = document.get("type") if isinstance(document, dict) else None
    if isinstance(declared, str) and declared in _SCALARS:
        msg = f"event {name}: the schema is one of type {declared}; event data is an object"
        raise SchemaError(msg)


class SecretEvent(inngest.Event):
    """An event that the SDK cannot send as it is: `ValidationPlugin` makes a plain one of it."""

    _secret_fields: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def secret_fields(self) -> frozenset[str]:
        """Top-level fields of the data that hold secrets; `*` for any."""
        return self._secret_fields

    def to_dict(self) -> dict[str, object] | Exception:
        """What the SDK sends, or why it must not."""
        return self._refusal()

    def _refusal(self) -> ValidationFailed:
        expected = "a client with a ValidationPlugin, as the event holds secrets in full"
        return Rejection.of("secret", expected).failure(f"event {self.name}", "outgoing")

    def plain(self) -> inngest.Event:
        """The event as the SDK sends it."""
        return inngest.Event(name=self.name, data=self.data, id=self.id, ts=self.ts)

    def __repr_args__(self) -> Any:
        """Names only: an event is easily logged."""
        yield "name", self.name
        yield "id", self.id
        yield "data", list(self.data)


def event_with_secrets(event: inngest.Event, fields: Collection[str]) -> inngest.Event:
    """The event itself; a `SecretEvent` where it has secrets."""
    if not fields:
        return event
    made = SecretEvent(name=event.name, data=event.data, id=event.id, ts=event.ts)
    made._secret_fields = frozenset(fields)  # noqa: SLF001 - a private attribute of pydantic's
    return made
