"""Both engines, and Pydantic, give their verdict on the JSON form of a value."""

import collections
import datetime
import enum
import json
from decimal import Decimal
from typing import Any, NamedTuple

import inngest
import pytest
from pydantic import BaseModel

from inngest_plugins.local import LocalEngine
from inngest_plugins.validation import EventType, SchemaError, ValidationFailed, ValidationPlugin
from inngest_plugins.validation.schemas.json_schema import JsonSchema
from inngest_plugins.validation.schemas.schema import EngineName, Rejection

ENGINES: tuple[EngineName, ...] = ("jsonschema", "jsonschema-rs")
DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]


class Float(float):
    """As numpy.float64 is one."""

    def __repr__(self) -> str:
        return f"np.float64({super().__repr__()})"

    def __float__(self) -> float:
        return -1.0


class Int(int):
    def __int__(self) -> int:
        return -1


class Text(str):
    def __str__(self) -> str:
        return "other"


class Members(dict[str, Any]):
    pass


class Pair(NamedTuple):
    a: int
    b: str


class Plain(enum.Enum):
    A = "x"


class Number(enum.IntEnum):
    ONE = 1


class Word(str, enum.Enum):
    A = "x"


FORMS: list[tuple[Any, Any]] = [
    (Float(1.5), 1.5),
    (Int(3), 3),
    (Text("x"), "x"),
    (Members(a=1), {"a": 1}),
    (Pair(1, "x"), [1, "x"]),
    ((1, (2, 3)), [1, [2, 3]]),
    ({1: "x", False: 1, None: 2, 1.5: 3}, {"1": "x", "false": 1, "null": 2, "1.5": 3}),
    ({Text("a"): 1, Word.A: 2, Plain.A: 3, Number.ONE: 4}, {"a": 1, "x": 3, "1": 4}),
    (Plain.A, "x"),
    (Number.ONE, 1),
    (Word.A, "x"),
    (collections.OrderedDict(a=Float(2)), {"a": 2.0}),
    ([Float(1), [Pair(1, "y")], {"n": {2: Int(4)}}], [1.0, [[1, "y"]], {"n": {"2": 4}}]),
]
SCHEMAS: list[Any] = [
    {"type": "number", "minimum": 1},
    {"type": "integer", "maximum": 3},
    {"type": "string", "pattern": "^x$"},
    {"type": "array", "prefixItems": [{"type": "integer"}], "uniqueItems": True},
    {"type": "object", "properties": {"1": {"type": "integer"}}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^[0-9]": {"type": "string"}}},
    {"enum": ["x", 1, 1.5, [1, "x"]]},
    {"const": {"a": 1}},
]
NOT_JSON: list[tuple[Any, str]] = [
    ({"a": [Decimal("1")]}, "/a/0"),
    ({"a": {"b": datetime.date(2026, 1, 1)}}, "/a/b"),
    ({"a": b"x"}, "/a"),
    ({"a": {1}}, "/a"),
    ({"a": {(1, 2): 1}}, "/a"),
    ({"a": object()}, "/a"),
]


def verdict(schema: Any, value: Any, engine: EngineName) -> Any:
    try:
        JsonSchema(schema, where="x", engine=engine).parse(value)
    except Rejection as rejection:
        return [(each.pointer, each.rule, each.expected) for each in rejection.violations]
    return None


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_verdict_is_that_on_the_json_form(schema: Any, engine: EngineName) -> None:
    """Pointers, rules and words are those of the plain value, under both engines."""
    for value, form in FORMS:
        assert verdict(schema, value, engine) == verdict(schema, form, "jsonschema"), value


def test_the_forms_are_those_of_json() -> None:
    """The corpus itself: where the library of Python writes a value, it writes this form."""
    written = 0
    for value, form in FORMS:
        try:
            text = json.dumps(value)
        except TypeError:
            continue
        if "NaN" not in text:
            written += 1
            assert json.loads(text) == form
    assert written >= 9


@pytest.mark.parametrize(("value", "pointer"), NOT_JSON)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_no_json_is_refused_with_its_place(
    value: Any, pointer: str, engine: EngineName
) -> None:
    """The class is named, and the value is not."""
    found = verdict({"properties": {"a": {"type": "string"}}}, value, engine)
    assert [each[:2] for each in found] == [(pointer, "json")]
    assert "not an object of class" in found[0][2]


def test_the_caller_gets_the_very_value() -> None:
    """A value that passes is handed on as it is."""
    value = {"a": Float(1)}
    for engine in ENGINES:
        assert JsonSchema({"type": "object"}, where="x", engine=engine).parse(value) is value


class Counts(BaseModel):
    by: dict[str, int]
    pair: list[Any] = []


def test_pydantic_reads_the_json_form_too() -> None:
    """Keys that are numbers are texts in JSON, which is what the next one reads."""
    kind = EventType("e", Counts)
    assert kind.parse({"name": "e", "data": {"by": {1: Int(2)}}}).by == {"1": 2}
    with pytest.raises(ValidationFailed, match="/by/1"):
        kind.parse({"name": "e", "data": {"by": {1: "x"}}})


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
async def test_outputs_and_events_of_a_run(engine: EngineName, is_async: bool) -> None:
    """A step and a function may return what the SDK can write; an event what it writes."""
    number = {"type": "object", "properties": {"1": {"type": "number"}}, "required": ["1"]}
    dated = {"properties": {"at": {"properties": {"day": {"pattern": "^2026-"}}}}}
    client = inngest.Inngest(
        app_id="shop",
        is_production=False,
        middleware=[
            ValidationPlugin(
                {
                    "dated": dated,
                    "priced": {"properties": {"of": {"properties": {"n": {"type": "number"}}}}},
                },
                outputs={"f": number},
                steps={("f", "s"): number},
                engine=engine,
            )
        ],
    )
    at: Any = {"day": datetime.date(2026, 1, 1)}
    good = inngest.Event(name="dated", data={"at": at})
    bad = inngest.Event(name="priced", data={"of": {"n": Decimal("1")}})
    create: Any = client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="start"))

    async def body(ctx: inngest.Context) -> Any:
        async def load() -> Any:
            return {1: Float(1.5)}

        await ctx.step.send_event("good", good)
        with pytest.raises(ValidationFailed, match="/of/n: type"):
            await client.send(bad)
        return {1: (await ctx.step.run("s", load))["1"]}

    def body_sync(ctx: inngest.ContextSync) -> Any:
        ctx.step.send_event("good", good)
        with pytest.raises(ValidationFailed, match="/of/n: type"):
            client.send_sync(bad)
        step: Any = ctx.step
        return {1: step.run("s", lambda: {1: Float(1.5)})["1"]}

    async with LocalEngine(client, [create(body if is_async else body_sync)]) as local:
        run = await local.run(inngest.Event(name="start"))
    assert run.status == "Completed", run.error
    assert run.output == {"1": 1.5}


class TestMetaSchemas:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("draft", DRAFTS)
    @pytest.mark.parametrize("own", DRAFTS)
    def test_a_schema_may_refer_to_any_meta_schema(
        self, own: str, draft: str, engine: EngineName
    ) -> None:
        """Data that is itself a schema is checked, at the root and below, whatever the drafts."""
        bad = {"minLength": -1}
        for schema, good in (
            ({"$schema": own, "$ref": draft}, {"minLength": 1, "multipleOf": 1}),
            ({"$schema": own, "properties": {"s": {"$ref": draft}}}, {"s": {"minLength": 1}}),
            (
                {"$schema": own, "anyOf": [{"$ref": draft}, {"type": "string"}]},
                {"properties": {"a": {"items": {}}}},
            ),
        ):
            compiled = JsonSchema(schema, where="event x", engine=engine)
            assert compiled.parse(good) is good
            with pytest.raises(Rejection):
                compiled.parse({"s": bad, **bad})

    @pytest.mark.parametrize("engine", ENGINES)
    def test_recursion_through_lists_of_types(self, engine: EngineName) -> None:
        """A union whose members have several types each, and lead back to it."""
        schema = {
            "anyOf": [
                {"type": ["object", "null"], "additionalProperties": {"$ref": "#"}},
                {"type": ["array", "boolean"], "items": {"$ref": "#"}},
            ]
        }
        assert JsonSchema(schema, where="x", engine=engine).parse({"a": [None, [{}]]})
        with pytest.raises(Rejection):
            JsonSchema(schema, where="x", engine=engine).parse({"a": [1]})


class TestDots:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("pattern", "text", "found"),
        [
            *(("^.$", end, False) for end in "\n\r\u2028\u2029"),
            *(("^a.*b$", f"a{end}b", False) for end in "\n\r\u2028\u2029"),
            *((f"^{pattern}$", "\r", True) for pattern in (r"[^.]", r"[\s\S]", r"\s", r"\r")),
            ("^.$", "\x85", True),
            ("^.$", "\U0001f600", True),
            (r"^\.$", ".", True),
            (r"^\.$", "a", False),
            (r"^[.\]]$", ".", True),
            (r"^[\]].$", "]\r", False),
            (r"^\\.$", "\\a", True),
            ("^(?=.)a", "a", True),
            (r"^(?!a).$", "\r", False),
        ],
    )
    def test_a_dot_is_no_line_end(
        self, pattern: str, text: str, found: bool, engine: EngineName
    ) -> None:
        """`.` is anything but the LineTerminators of ECMA 262, also in patternProperties."""
        wanted = None if found else [("", "pattern", f"text matching {json.dumps(pattern)}")]
        assert verdict({"pattern": pattern}, text, engine) == wanted
        named = {"patternProperties": {pattern: False}}
        assert (verdict(named, {text: 1}, engine) is not None) is found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("recursive", [True, False])
def test_a_value_that_holds_itself_is_refused(engine: EngineName, recursive: bool) -> None:
    """It has no JSON form; looking for one ends."""
    value: dict[str, Any] = {"a": {}, "odd": (1,)}
    value["a"]["b"] = [value]
    schema = {"additionalProperties": {"$ref": "#"}} if recursive else {"properties": {"a": False}}
    assert verdict(schema, value, engine) is not None
    del value["odd"]
    assert verdict(schema, value, engine) is not None


def test_deep_schemas_are_refused_in_words(tmp_path: Any) -> None:
    """A schema, or a file of one, that nests without end is named, not the interpreter's limit."""
    deep: Any = {}
    for _ in range(100_000):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="event x: the schema nests too deeply"):
        JsonSchema(deep, where="event x")
    while deep:
        deep = deep.pop("items")
    path = tmp_path / "deep.json"
    path.write_text('{"items":' * 100_000 + "{}" + "}" * 100_000)
    with pytest.raises(SchemaError, match=r"deep\.json nests too deeply"):
        EventType("e", path)
    path.write_text('\ufeff{"type": "object"}', encoding="utf-8")
    assert EventType("e", path).parse({"name": "e", "data": {}}) == {}
