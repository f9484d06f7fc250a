"""Event types, registries, and every kind of schema they take."""

import dataclasses
import datetime
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import inngest
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, computed_field, model_validator
from typing_extensions import TypedDict

from inngest_plugins.validation import (
    EventType,
    SchemaError,
    SchemaRegistry,
    ValidationFailed,
    Violation,
)


class Line(BaseModel):
    sku: str = Field(alias="SKU")
    quantity: int = Field(default=1, ge=1)


class Order(BaseModel):
    id: UUID
    placed: datetime.datetime
    lines: list[Line]
    state: Literal["open", "paid"] = "open"


class Typed(TypedDict):
    id: int


@dataclasses.dataclass
class Plain:
    id: int


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]


ORDER = {"id": "12345678-1234-5678-1234-567812345678", "placed": "2026-01-01T00:00:00Z"}
order_placed = EventType("shop/order.placed", Order)


def event(data: dict[str, Any], name: str = "shop/order.placed") -> inngest.Event:
    return inngest.Event(name=name, data=data)


@dataclasses.dataclass
class Point:
    """A schema itself; an object of it is none."""

    x: int = 0


class TestEventType:
    def test_new_and_parse_are_inverse(self) -> None:
        """An event built from an object parses back to an equal object."""
        order = Order.model_validate({**ORDER, "lines": [{"SKU": "a"}]})
        built = order_placed.new(order, id="e-1", ts=5)
        assert (built.name, built.id, built.ts) == ("shop/order.placed", "e-1", 5)
        assert built.data == {
            **ORDER,
            "lines": [{"SKU": "a", "quantity": 1}],
            "state": "open",
        }
        assert order_placed.parse(built) == order

    def test_new_takes_the_json_form(self) -> None:
        """A mapping is validated and completed with defaults."""
        built = order_placed.new({**ORDER, "lines": []})
        assert built.data["state"] == "open"

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [({"lines": [{"SKU": "a", "quantity": 0}]}, "/lines/0/quantity"), ({"lines": 1}, "/lines")],
    )
    def test_new_refuses_what_breaks_the_schema(self, change: Any, pointer: str) -> None:
        """A bad mapping raises before there is an event."""
        with pytest.raises(ValidationFailed) as caught:
            order_placed.new({**ORDER, **change})
        assert caught.value.errors[0].pointer == pointer
        assert caught.value.direction == "outgoing"

    def test_new_checks_objects_that_were_changed(self) -> None:
        """An object that was built without validation, or changed since, is checked too."""
        order = Order.model_validate({**ORDER, "lines": [{"SKU": "a"}]})
        order.lines[0].quantity = -1
        with pytest.raises(ValidationFailed, match="/lines/0/quantity"):
            order_placed.new(order)
        with pytest.raises(ValidationFailed, match="/id"):
            order_placed.new(Order.model_construct(id="no", lines=[]))

    def test_new_of_what_cannot_be_json(self) -> None:
        """What the type cannot write as JSON is a failure, not another exception."""
        with pytest.raises(ValidationFailed, match="serialization"):
            order_placed.new(object())  # type: ignore[arg-type]
        with pytest.raises(ValidationFailed, match="an object"):
            EventType[Any]("any", Any).new([1])

    def test_new_with_a_json_schema(self) -> None:
        """A JSON Schema checks and changes nothing."""
        kind = EventType("e", {"required": ["id"], "properties": {"n": {"default": 1}}})
        assert kind.new({"id": "a"}).data == {"id": "a"}
        with pytest.raises(ValidationFailed, match="/id: required"):
            kind.new({})

    def test_types_without_json_schema(self) -> None:
        """A type that has no JSON Schema is checked all the same."""

        class Opaque(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            a: "re.Pattern[str] | Callable[[], int]"

        Opaque.model_rebuild(_types_namespace={"re": re, "Callable": Callable})
        with pytest.raises(ValidationFailed, match="/a"):
            EventType("e", Opaque).parse(event({"a": 1}, name="e"))

    def test_computed_fields_stay_out(self) -> None:
        """A model with a computed field and no tolerance for extras round-trips."""

        class Total(BaseModel):
            model_config = ConfigDict(extra="forbid")
            a: int

            @computed_field  # type: ignore[prop-decorator]
            @property
            def double(self) -> int:
                return 2 * self.a

        total = EventType("total", Total)
        assert total.parse(total.new(Total(a=2))).double == 4

    def test_parse_outside_a_run(self) -> None:
        """Without a run parse validates, and reads bare events in JSON form too."""
        assert order_placed.parse(event({**ORDER, "lines": []})).state == "open"
        bare = {"name": "shop/order.placed", "data": {**ORDER, "lines": []}}
        assert order_placed.parse(bare).lines == []
        with pytest.raises(ValidationFailed) as caught:
            order_placed.parse(event({}))
        assert [each.pointer for each in caught.value.errors] == ["/id", "/lines", "/placed"]
        assert {each.rule for each in caught.value.errors} == {"missing"}

    def test_parse_refuses_another_event(self) -> None:
        """An event of another name is not this one; the engine's own carry any."""
        with pytest.raises(ValidationFailed, match=r"name: expected an event named shop/order"):
            order_placed.parse(event({**ORDER, "lines": []}, name="shop/other"))
        invoked = event(
            {**ORDER, "lines": [], "_inngest": {"fn_id": "x"}}, name="inngest/function.invoked"
        )
        assert order_placed.parse(invoked).state == "open"

    @pytest.mark.parametrize("given", ["canary", 3, None, ["canary"], object()])
    def test_parse_of_what_is_no_event(self, given: object) -> None:
        """The failure names the event type and the type given, and not the value."""
        with pytest.raises(ValidationFailed) as caught:
            order_placed.parse(given)
        assert caught.value.subject == "event shop/order.placed"
        assert f"not {type(given).__name__}" in str(caught.value)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("name", ["shop/order.placed", "inngest/function.invoked"])
    @pytest.mark.parametrize("data", ["canary", 3, [{}], ["_inngest"]])
    def test_parse_of_an_event_without_an_object(self, name: str, data: object) -> None:
        """Data that is no object breaks the schema, under the engine's own names too."""
        with pytest.raises(ValidationFailed, match=r"shop/order\.placed") as caught:
            order_placed.parse({"name": name, "data": data})
        assert "canary" not in str(caught.value)

    def test_trigger(self) -> None:
        """The trigger names the event, and takes an expression."""
        assert order_placed.trigger().event == "shop/order.placed"
        assert order_placed.trigger("event.data.n > 1").expression == "event.data.n > 1"

    def test_patterns_have_no_events_of_their_own(self) -> None:
        """A wildcard type triggers and parses, but cannot make an event."""
        family = EventType("shop/*", Typed)
        assert family.parse(event({"id": 1}, name="shop/x")) == {"id": 1}
        with pytest.raises(ValueError, match="is a pattern"):
            family.new({"id": 1})

    @pytest.mark.parametrize(
        ("schema", "good", "bad", "pointer"),
        [
            (Typed, {"id": 1}, {"id": "x"}, "/id"),
            (Plain, {"id": 1}, {"id": "x"}, "/id"),
            (Card | Cash, {"kind": "cash"}, {"kind": "card"}, "/number"),
            (
                Annotated[Card | Cash, Field(discriminator="kind")],
                {"kind": "cash"},
                {"kind": "canary"},
                "",
            ),
            (TypeAdapter(Typed), {"id": 1}, {}, "/id"),
            (dict[str, int], {"a": 1}, {"a": "x"}, "/a"),
            ({"required": ["id"]}, {"id": 1}, {}, "/id"),
            (True, {}, None, None),
        ],
    )
    def test_kinds_of_schemas(self, schema: Any, good: Any, bad: Any, pointer: Any) -> None:
        """TypedDict, dataclass, union, Annotated, TypeAdapter, generic, dict and bool work."""
        kind = EventType[Any]("e", schema)
        kind.parse(event(good, name="e"))
        if bad is not None:
            with pytest.raises(ValidationFailed) as caught:
                kind.parse(event(bad, name="e"))
            assert pointer in [each.pointer for each in caught.value.errors]
            assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        ("schema", "told"),
        [
            (int, "type integer"),
            (list[int], "type array"),
            ({"type": "string"}, "type string"),
            (None, "None is no schema"),
            ("Order", "path of a .json or .yaml file"),
            (object(), "no Pydantic schema can be made"),
            ("nowhere.json", "cannot be read"),
        ],
    )
    def test_wrong_schemas(self, schema: Any, told: str) -> None:
        """What is no schema of an object is refused at once, naming the event."""
        with pytest.raises(SchemaError, match=told):
            EventType[Any]("shop/x", schema)

    @pytest.mark.parametrize("schema", [3, b"x", [Order], object(), Point()])
    def test_what_is_no_schema_is_told_in_one_line(self, schema: Any) -> None:
        """What a schema may be, and nothing for authors of Pydantic types."""
        with pytest.raises(SchemaError) as caught:
            EventType[Any]("shop/x", schema)
        told = str(caught.value)
        assert told.startswith("event shop/x: no Pydantic schema can be made of ")
        assert "a schema is a Pydantic model or another type" in told
        assert "core" not in told
        assert "\n" not in told

    def test_a_type_that_pydantic_cannot_make_is_named(self) -> None:
        """Inside another type the reason is Pydantic's, in one line."""

        class Opaque:
            pass

        class Open(BaseModel):
            a: "Nowhere"  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

        for schema, reason in ((dict[str, Opaque], "Opaque'>"), (Open, "not fully defined")):
            with pytest.raises(SchemaError, match=reason) as caught:
                EventType[Any]("shop/x", schema)
            assert "\n" not in str(caught.value)

    def test_a_name_is_needed(self) -> None:
        """An event type without a name is refused."""
        with pytest.raises(SchemaError, match="needs a name"):
            EventType("", Typed)

    def test_strict_models_take_json(self) -> None:
        """A strict field takes what strict mode takes in JSON, where dates are strings."""

        class Strict(BaseModel):
            model_config = ConfigDict(strict=True)
            at: datetime.datetime
            id: UUID
            pair: tuple[int, int]
            n: int

        strict = EventType("strict", Strict)
        good = {"at": ORDER["placed"], "id": ORDER["id"], "pair": [1, 2], "n": 1}
        assert strict.parse(event(good, name="strict")).pair == (1, 2)
        with pytest.raises(ValidationFailed) as caught:
            strict.parse(event({**good, "n": "1"}, name="strict"))
        assert [(each.pointer, each.rule) for each in caught.value.errors] == [("/n", "int_type")]
        with pytest.raises(ValidationFailed):
            strict.parse({"name": "strict", "data": {**good, "n": object()}})

    def test_repr_names_the_schema(self) -> None:
        """The repr helps in a debugger."""
        assert repr(order_placed) == "EventType('shop/order.placed', PydanticSchema(Order))"


MODELS = st.builds(
    Order,
    id=st.uuids(),
    placed=st.datetimes(timezones=st.just(datetime.timezone.utc)),
    lines=st.lists(
        st.builds(
            lambda sku, quantity: Line(SKU=sku, quantity=quantity),
            st.text(),
            st.integers(1, 10**9),
        ),
        max_size=3,
    ),
    state=st.sampled_from(["open", "paid"]),
)


@given(order=MODELS)
def test_generated_models_round_trip(order: Order) -> None:
    """Whatever object of the type is sent is what the handler parses."""
    assert order_placed.parse(order_placed.new(order)) == order


class TestPointers:
    def violations(self, schema: Any, value: Any) -> list[tuple[str, str]]:
        with pytest.raises(ValidationFailed) as caught:
            EventType[Any]("e", schema).parse(event(value, name="e"))
        return [(each.pointer, each.rule) for each in caught.value.errors]

    def test_labels_are_no_places(self) -> None:
        """Members of unions and names of validators are left out of the pointer."""

        class Checked(BaseModel):
            pay: Card | Cash
            tag: Annotated[Card | Cash, Field(discriminator="kind")]

            @model_validator(mode="after")
            def check(self) -> "Checked":
                return self

        assert self.violations(
            Checked, {"pay": {"kind": "card", "number": 1}, "tag": {"kind": "card"}}
        ) == [
            ("/pay/kind", "literal_error"),
            ("/pay/number", "string_type"),
            ("/tag/number", "missing"),
        ]

    def test_a_key_called_like_a_label(self) -> None:
        """Where a union's label is a key too, the place is the one the error is about."""
        assert self.violations(dict[str, int | dict[str, int]], {"a": {"int": "x"}}) == [
            ("/a", "int_type"),
            ("/a/int", "int_parsing"),
        ]

    def test_keys_are_escaped(self) -> None:
        """Pointers escape as RFC 6901 says; control characters and length are tamed."""
        odd = {"a/b~c": "x", "line\nbreak": "x", "k" * 100: "x"}
        pointers = [pointer for pointer, _ in self.violations(dict[str, int], odd)]
        assert pointers == ["/a~1b~0c", "/" + "k" * 64 + "...", "/line\\nbreak"]

    def test_bad_keys(self) -> None:
        """A key that breaks its schema is told by its own place."""
        assert self.violations(dict[Literal["a"], int], {"b": 1}) == [("/b", "literal_error")]


class TestRegistry:
    def test_the_narrowest_schema_wins(self) -> None:
        """The exact name first, then the longest literal beginning; `*` spans slashes."""
        registry = SchemaRegistry(
            {"*": {"const": 1}, "shop/*": True, "shop/order.*": True, "shop/order.placed": True}
        )

        def found(name: str) -> str:
            schema = registry.find(name)
            return next(each.name for each in registry if each.compiled is schema)

        assert found("shop/order.placed") == "shop/order.placed"
        assert found("shop/order.paid") == "shop/order.*"
        assert found("shop/a/b") == "shop/*"
        assert found("crm/x") == "*"
        assert len(registry) == 4
        assert "shop/order.placed" in repr(registry)

    def test_only_the_star_is_special(self) -> None:
        """Brackets and question marks in names are ordinary characters."""
        registry = SchemaRegistry({"a[b]?/*": True})
        assert "a[b]?/x" in registry
        assert "ab1/x" not in registry
        assert 1 not in registry

    def test_names_are_registered_once(self) -> None:
        """A second schema for a name, and one for an engine event, are errors."""
        registry = SchemaRegistry([order_placed])
        with pytest.raises(SchemaError, match="has a schema already"):
            registry.add("shop/order.placed", True)
        with pytest.raises(SchemaError, match="engine's own"):
            registry.add("inngest/function.failed", True)

    def test_an_event_type_under_another_name(self) -> None:
        """A mapping may give a type of one event to another."""
        registry = SchemaRegistry({"shop/reordered": order_placed})
        assert registry.find("shop/reordered") is order_placed.compiled

    def test_validate(self) -> None:
        """Validating returns the parsed object, or the data where there is no schema."""
        registry = SchemaRegistry([order_placed])
        good = event({**ORDER, "lines": []})
        assert isinstance(registry.validate(good), Order)
        other = event({"a": 1}, name="x")
        assert registry.validate(other) == {"a": 1}
        with pytest.raises(ValidationFailed):
            registry.validate(event({}))


class TestFiles:
    def test_one_file(self, tmp_path: Path) -> None:
        """A .json or .yaml file is a schema, by Path or by str."""
        (tmp_path / "a.json").write_text('{"required": ["id"]}')
        (tmp_path / "b.yaml").write_text("required: [id]\n")
        for path in (tmp_path / "a.json", str(tmp_path / "b.yaml")):
            with pytest.raises(ValidationFailed, match="/id: required"):
                EventType("e", path).parse(event({}, name="e"))

    @pytest.mark.parametrize("engine", ["jsonschema", "jsonschema-rs"])
    def test_a_folder(self, tmp_path: Path, engine: Any) -> None:
        """Paths spell event names, x-event overrides, `_` holds definitions, refs are relative."""
        (tmp_path / "shop" / "_defs").mkdir(parents=True)
        (tmp_path / "shop" / "order.placed.json").write_text(
            '{"properties": {"total": {"$ref": "_defs/money.yaml#/$defs/Money"}}}'
        )
        (tmp_path / "shop" / "_defs" / "money.yaml").write_text(
            "$defs: {Money: {type: object, required: [amount]}}\n"
        )
        (tmp_path / "shop" / "any.yml").write_text("x-event: shop/*\nrequired: [shop_id]\n")
        registry = SchemaRegistry(str(tmp_path), engine=engine)
        assert [each.name for each in registry] == ["shop/order.placed", "shop/*"]
        with pytest.raises(ValidationFailed, match="/total/amount: required"):
            registry.validate(event({"total": {}}))
        with pytest.raises(ValidationFailed, match="/shop_id: required"):
            registry.validate(event({}, name="shop/other"))
        assert "schemas.invalid" in repr(registry.find("shop/order.placed"))

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ({}, "no schema of an event"),
            ({"a.json": "{"}, "is not JSON"),
            ({"a.yaml": "["}, "is not YAML"),
            ({"a.json": "[1]"}, "holds no schema"),
            ({"a.yaml": "enum: [2026-01-01]"}, "no JSON value"),
            ({"a.json": "true", "a.yaml": "true"}, "two files"),
            ({"a.json": '{"type": "x"}'}, "at /type: the schema is invalid"),
            ({"_a.json": '{"type": "x"}', "b.json": "true"}, "_a.json: at /type"),
        ],
    )
    def test_wrong_folders(self, tmp_path: Path, files: dict[str, str], told: str) -> None:
        """Each mistake in a folder is told with the file that holds it."""
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(SchemaError, match=told):
            SchemaRegistry(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        """A folder that is not there is an error."""
        with pytest.raises(SchemaError, match="is no folder"):
            SchemaRegistry(tmp_path / "nowhere")


class TestValidationFailed:
    failure = ValidationFailed(
        [Violation("/a", "minimum", "at least 1", "event e", 3), Violation("", "type", "x", "f")],
        direction="outgoing",
        omitted=2,
    )

    def test_message(self) -> None:
        """The message lists subject, direction, places, rules and what is left out."""
        assert str(self.failure).splitlines() == [
            "event e, f (outgoing) breaks its schema: 4 violations",
            "  [3] /a: minimum: expected at least 1",
            "  (the whole value): type: expected x",
            "  and 2 more",
        ]

    def test_it_pickles(self) -> None:
        """It survives a process boundary whole."""
        copy = pickle.loads(pickle.dumps(self.failure))
        assert (copy.errors, copy.direction, copy.omitted, str(copy)) == (
            self.failure.errors,
            self.failure.direction,
            self.failure.omitted,
            str(self.failure),
        )

    def test_it_is_never_retried(self) -> None:
        """It is a NonRetriableError of the SDK."""
        assert isinstance(self.failure, inngest.NonRetriableError)
        assert self.failure.is_retriable is False
