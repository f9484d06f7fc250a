"""What a payload, or a reference in a schema, must not be able to do."""

import contextlib
import http.server
import json
import logging
import pickle
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import inngest
import jsonschema
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from inngest_plugins.core import Layer, Plugin
from inngest_plugins.local import LocalEngine
from inngest_plugins.validation import (
    EventType,
    SchemaError,
    SchemaRegistry,
    ValidationFailed,
    ValidationPlugin,
)
from inngest_plugins.validation.schemas.schema import EngineName

ENGINES: tuple[EngineName, ...] = ("jsonschema", "jsonschema-rs")
SECRET = "canary-4111-1111"


def event(data: Any, name: str = "e") -> inngest.Event:
    return inngest.Event.model_construct(name=name, data=data, id="", ts=0)


def refused(schema: Any, data: Any) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        EventType[Any]("e", schema).parse(event(data))
    return caught.value


def assert_nothing_of(secret: str, failure: BaseException) -> None:
    """The secret is in no text, no attribute and no exception that the failure leads to."""
    seen = [failure]
    for each in seen:
        assert secret not in str(each)
        assert secret not in repr(each)
        assert secret not in repr(vars(each))
        seen.extend(x for x in (each.__cause__, each.__context__) if x is not None)
    assert secret not in "".join(traceback.format_exception(failure))
    assert secret.encode() not in pickle.dumps(failure)


class TestReferences:
    @pytest.fixture
    def server(self) -> Iterator[tuple[str, list[str]]]:
        """A server on loopback that notes what it is asked for."""
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = b'{"type": "integer"}'
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()
        thread.join()
        listening.server_close()

    def test_the_libraries_do_fetch(self, server: tuple[str, list[str]], tmp_path: Path) -> None:
        """The control: left to themselves both libraries fetch and read, so the traps work."""
        url, asked = server
        with pytest.warns(DeprecationWarning, match="Automatically retrieving"):
            jsonschema.Draft202012Validator({"$ref": f"{url}/a"}).is_valid(1)
        # Asking is what counts; some versions are not content with the answer.
        with contextlib.suppress(jsonschema_rs.ValidationError):
            jsonschema_rs.validator_for({"$ref": f"{url}/b"})
        assert asked == ["/a", "/b"]
        planted = tmp_path / "planted.json"
        planted.write_text('{"type": "integer"}')
        assert not jsonschema_rs.validator_for({"$ref": planted.as_uri()}).is_valid("x")

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema", "$id"])
    def test_nothing_is_fetched(
        self, server: tuple[str, list[str]], engine: Any, keyword: str
    ) -> None:
        """No keyword that holds an address makes a request, when built or when used."""
        url, asked = server
        schema: dict[str, Any] = {keyword: f"{url}/x", "properties": {"a": {"type": "string"}}}
        try:
            EventType("e", schema, engine=engine).parse(event({"a": "x"}))
        except SchemaError as error:
            told = str(error)
        else:
            told = ""
        assert told == "" if keyword == "$id" else f"{url}/x" in told
        assert asked == []

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("form", ["uri", "absolute", "relative", "climbing"])
    def test_no_file_outside_the_folder_is_read(
        self, tmp_path: Path, engine: Any, form: str
    ) -> None:
        """A planted file beside the folder cannot be reached by any way of writing it."""
        planted = tmp_path / "planted.json"
        planted.write_text('{"type": "integer"}')
        folder = tmp_path / "schemas"
        folder.mkdir()
        reference = {
            "uri": planted.as_uri(),
            "absolute": str(planted),
            "relative": "planted.json",
            "climbing": "../../../../../../.." + str(planted),
        }[form]
        (folder / "a.json").write_text(json.dumps({"properties": {"a": {"$ref": reference}}}))
        with pytest.raises(SchemaError, match="leads nowhere"):
            SchemaRegistry(folder, engine=engine)
        with pytest.raises(SchemaError, match="leads nowhere"):
            EventType("e", folder / "a.json", engine=engine)

    def test_links_out_of_the_folder_are_refused(self, tmp_path: Path) -> None:
        """A symbolic link in the folder does not open what is outside."""
        planted = tmp_path / "planted.json"
        planted.write_text("true")
        folder = tmp_path / "schemas"
        folder.mkdir()
        (folder / "a.json").symlink_to(planted)
        with pytest.raises(SchemaError, match="leads out of"):
            SchemaRegistry(folder)

    def test_yaml_makes_no_objects(self, tmp_path: Path) -> None:
        """YAML tags that construct objects are refused."""
        (tmp_path / "a.yaml").write_text("!!python/object/apply:os.getcwd []")
        with pytest.raises(SchemaError, match="is not YAML"):
            SchemaRegistry(tmp_path)


class Leaky(BaseModel):
    a: str
    b: int = 0
    c: Any = None
    d: Annotated[int | str, Field(description="either")] = 0
    e: Literal["x"] = "x"

    @field_validator("a")
    @classmethod
    def check_a(cls, value: str) -> str:
        if value.startswith("custom"):
            raise PydanticCustomError("my_type", "bad {value}", {"value": value})
        if value.startswith("key"):
            raise KeyError(value)
        if value.startswith("assert"):
            raise AssertionError(value)
        raise ValueError(f"bad value {value}")


class Tagged(BaseModel):
    kind: Literal["a"]


class OtherTagged(BaseModel):
    kind: Literal["b"]


class Holder(BaseModel):
    one: Annotated[Tagged | OtherTagged, Field(discriminator="kind")]


class TestNothingLeaks:
    @pytest.mark.parametrize("prefix", ["", "custom", "key", "assert"])
    def test_validators_of_the_user(self, prefix: str) -> None:
        """What a user's own validator says, or crashes with, is not repeated."""
        failure = refused(Leaky, {"a": prefix + SECRET, "b": SECRET, "e": SECRET})
        assert_nothing_of(SECRET, failure)
        rules = {each.rule for each in failure.errors}
        told = {"": "value_error", "custom": "my_type", "key": "validator_crashed"}
        assert told.get(prefix, "assertion_error") in rules

    def test_discriminators(self) -> None:
        """The tag that was found is not repeated; those expected are."""
        failure = refused(Holder, {"one": {"kind": SECRET}})
        assert_nothing_of(SECRET, failure)
        assert "'a', 'b'" in failure.errors[0].expected

    @pytest.mark.parametrize("engine", ENGINES)
    def test_json_schema(self, engine: Any) -> None:
        """No keyword's failure repeats the value."""
        schema = {
            "properties": {
                "a": {"type": "integer"},
                "b": {"enum": [1]},
                "c": {"const": 1},
                "d": {"pattern": "^x$"},
                "e": {"anyOf": [{"type": "null"}]},
                "f": {"not": {"type": "string"}},
                "g": {"maxLength": 1},
                "h": {"contains": {"type": "null"}},
                "i": {"uniqueItems": True},
                "j": {"unevaluatedItems": False},
                "k": False,
            }
        }
        data: dict[str, Any] = dict.fromkeys("abcdefgk", SECRET)
        data |= {"h": [SECRET], "i": [SECRET, SECRET], "j": [SECRET]}
        with pytest.raises(ValidationFailed) as caught:
            EventType("e", schema, engine=engine).parse(event(data))
        assert len(caught.value.errors) == 11
        assert_nothing_of(SECRET, caught.value)

    def test_objects_that_cannot_be_written(self) -> None:
        """Failing to serialise an object does not repeat it either."""

        class Model(BaseModel):
            a: int

        with pytest.raises(ValidationFailed) as caught:
            EventType("e", Model).new(Model.model_construct(a=SECRET))
        assert_nothing_of(SECRET, caught.value)

    @pytest.mark.anyio
    async def test_keys_are_masked_where_payloads_are_secret(self) -> None:
        """In a stack that keeps payloads secret, names that only the payload chose become *."""

        class Secret(Plugin):
            layer = Layer.WIRE
            secret_payloads = True

        class Model(BaseModel):
            known: dict[str, int] = {}

        data: Any = {"known": {SECRET: "x"}}
        for plugins, pointer in (([], f"/known/{SECRET}"), ([Secret()], "/known/*")):
            for schema in (
                Model,
                {"properties": {"known": {"additionalProperties": {"type": "integer"}}}},
            ):
                client = inngest.Inngest(
                    app_id="m",
                    is_production=False,
                    middleware=[ValidationPlugin({"e": schema}), *plugins],
                )
                with pytest.raises(ValidationFailed) as caught:
                    await client.send(inngest.Event(name="e", data=data))
                assert caught.value.errors[0].pointer == pointer

    @pytest.mark.anyio
    async def test_a_run_leaks_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the response to the engine nor a log line holds the value."""
        client = inngest.Inngest(
            app_id="leak",
            is_production=False,
            middleware=[ValidationPlugin({"e": Leaky}, outgoing=False)],
        )

        @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="e"))
        async def f(ctx: inngest.Context) -> None:
            return None

        with caplog.at_level(logging.DEBUG):
            async with LocalEngine(client, [f]) as engine:
                run = await engine.run(inngest.Event(name="e", data={"a": SECRET}))
        assert run.status == "Failed"
        assert SECRET not in str(run.requests[0].response)
        assert SECRET not in str(run.error)
        ours = [each for each in caplog.records if not each.name.startswith(("httpx", "httpcore"))]
        assert SECRET not in str([each.getMessage() for each in ours])


def nested(depth: int, key: str = "a") -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {key: value}
    return value


class Node(BaseModel):
    a: "Node | None" = None


class And(BaseModel):
    op: Literal["and"]
    a: "And | Or | Leaf"


class Or(BaseModel):
    op: Literal["or"]
    a: "And | Or | Leaf"


class Leaf(BaseModel):
    v: int


class TestBoundedTime:
    """Generous limits: the point is seconds and not hours, whatever the machine."""

    @pytest.fixture(autouse=True)
    def in_time(self) -> Iterator[None]:
        started = time.process_time()
        yield
        assert time.process_time() - started < 30

    SCHEMAS = [
        Node,
        dict[str, Any],
        {"properties": {"a": {"$ref": "#"}}},
        {"properties": {"a": {"type": "object"}}, "uniqueItems": True},
        {"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
        {"unevaluatedProperties": False, "properties": {"a": True}},
        {"not": {}},
        {"enum": [1]},
    ]

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("schema", SCHEMAS)
    @pytest.mark.parametrize("depth", [100, 900, 100_000])
    def test_deep_nesting(self, engine: Any, schema: Any, depth: int) -> None:
        """Any depth ends in a pass or a failure."""
        kind = EventType[Any]("e", schema, engine=engine)
        value = nested(depth)
        with contextlib.suppress(ValidationFailed):
            kind.parse(event(value))
        while value:
            value = value.pop("a")  # unwound by hand: freeing it recursively is slow, not wrong

    def test_deep_nesting_in_a_small_thread(self) -> None:
        """Even a thread with a small stack does not crash (run apart: a crash kills a process)."""
        code = (
            "import threading\n"
            "from inngest_plugins.validation import EventType, ValidationFailed\n"
            "d = {}\n"
            "for _ in range(50_000): d = {'a': d}\n"
            "kinds = [EventType('e', {'properties': {'a': {'$ref': '#'}}}),\n"
            "    EventType('e', {'properties': {'a': {'const': 1}}})]\n"
            "def run():\n"
            "    for kind in kinds:\n"
            "        try: kind.parse({'name': 'e', 'data': d})\n"
            "        except ValidationFailed as failure: print(failure.errors[0].rule)\n"
            "threading.stack_size(512 * 1024)\n"
            "thread = threading.Thread(target=run); thread.start(); thread.join()\n"
            "import os, sys; sys.stdout.flush(); os._exit(0)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["depth", "schema"]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_huge_arrays(self, engine: Any) -> None:
        """Many items under the costly keywords, good or bad, and none is quadratic."""
        items: list[Any] = list(range(50_000))
        objects = [{"n": n} for n in range(12_500)]
        for schema, data in (
            ({"items": {"type": "integer"}}, items),
            ({"items": {"type": "string"}}, items),
            ({"uniqueItems": True}, objects),
            ({"prefixItems": [True], "unevaluatedItems": {"type": "integer"}}, items),
            ({"allOf": [{"items": {"type": "integer"}}], "unevaluatedItems": False}, items),
            ({"contains": {"const": -1}}, items),
        ):
            kind = EventType[Any]("e", {"properties": {"a": schema}}, engine=engine)
            with contextlib.suppress(ValidationFailed):
                kind.parse(event({"a": data}))

    @pytest.mark.parametrize("engine", ENGINES)
    def test_many_keys(self, engine: Any) -> None:
        """A hundred thousand properties under unevaluatedProperties are no more than linear."""
        kind = EventType(
            "e", {"patternProperties": {"^k": True}, "unevaluatedProperties": False}, engine=engine
        )
        data = {f"k{n}": n for n in range(100_000)}
        kind.parse(event(data))
        with pytest.raises(ValidationFailed):
            kind.parse(event({**data, "x": 1}))

    def test_a_million_pydantic_errors(self) -> None:
        """A list of bad items is counted, not spelled out."""
        failure = refused(dict[str, list[str]], {"a": list(range(300_000))})
        assert failure.errors[0].rule == "too_many_violations"
        assert "300000" in failure.errors[0].expected

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            (r"^(a+)+$", "a" * 5000 + "!"),
            (r"^(a|a)*$", "a" * 5000 + "!"),
            (r"^(?=(a+)+$)b", "a" * 100 + "!"),
            (r"^(?!x)(a|aa)+$", "a" * 100 + "!"),
            (r"^(a+)\1+b$", "a" * 3000),
            (r"(x+x+)+y", "x" * 5000),
        ],
    )
    def test_hostile_texts(self, engine: Any, pattern: str, text: str) -> None:
        """Texts that make a backtracking engine run for years fail soon, as value and as key."""
        kind = EventType("e", {"properties": {"a": {"pattern": pattern}}}, engine=engine)
        with pytest.raises(ValidationFailed, match="/a: pattern"):
            kind.parse(event({"a": text}))
        keys: dict[str, Any] = {
            "patternProperties": {pattern: False},
            "additionalProperties": True,
            "unevaluatedProperties": False,
        }
        EventType("e", keys, engine=engine).parse(event({text: 1}))

    def test_recursion_through_a_plain_union(self) -> None:
        """A union that recurses through two members is refused before it costs 2 ** depth."""
        value: dict[str, Any] = {"v": 1}
        for _ in range(200):
            value = {"op": "or", "a": value}
        failure = refused(And | Or | Leaf, value)
        assert failure.errors[0].rule == "depth"
        assert "discriminator" in failure.errors[0].expected
        shallow = {"op": "or", "a": {"op": "and", "a": {"v": 1}}}
        assert isinstance(EventType[Any]("e", And | Or | Leaf).parse(event(shallow)), Or)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_dynamic_recursion_through_a_union(self, engine: Any) -> None:
        """The same for dynamic references, whose targets cannot be remembered."""
        member = {"properties": {"a": {"$dynamicRef": "#n"}}, "required": ["a"]}
        schema = {"$dynamicAnchor": "n", "anyOf": [member, {**member, "x-b": 1}, {"const": 1}]}
        value: Any = 2
        for _ in range(60):
            value = {"a": value}
        with pytest.raises(ValidationFailed, match="depth"):
            EventType("e", schema, engine=engine).parse(event(value))

    @pytest.mark.parametrize("engine", ENGINES)
    def test_ten_megabytes(self, engine: Any) -> None:
        """A 10 MB event passes or fails in seconds with each kind of schema."""
        line = {"sku": "x" * 80, "quantity": 1}
        data = {"lines": [line] * 100_000}
        assert len(json.dumps(data)) > 10_000_000
        lines = {"items": {"properties": {"quantity": {"type": "integer"}}}}
        EventType("e", {"properties": {"lines": lines}}, engine=engine).parse(event(data))
        EventType[Any]("e", dict[str, list[dict[str, str | int]]]).parse(event(data))
        big = {"a": "x" * 10_000_000}
        with pytest.raises(ValidationFailed):
            EventType("e", {"properties": {"a": {"maxLength": 1, "pattern": "y"}}}).parse(
                event(big)
            )


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["\ud800", 10**400, -0.0, b"x", object(), float("nan")]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
FUZZED_SCHEMAS: list[Any] = [
    Node,
    Leaky,
    dict[str, Any],
    dict[str, list[int | dict[str, str]]],
    {"additionalProperties": {"type": ["string", "object"], "pattern": "^a", "minLength": 1}},
    {"properties": {"a": {"$ref": "#"}}, "additionalProperties": {"uniqueItems": True}},
    {"propertyNames": {"maxLength": 1}, "unevaluatedProperties": {"multipleOf": 0.1}},
    {"maxProperties": 1, "minProperties": 1, "dependentRequired": {"a": ["b"]}},
]
FUZZED = [
    EventType[Any]("e", schema, engine=engine) for engine in ENGINES for schema in FUZZED_SCHEMAS
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.dictionaries(st.sampled_from(["a", "b", "", "x/y"]) | st.text(), ANY, max_size=5))
def test_fuzz(data: dict[str, Any]) -> None:
    """Whatever the payload: a pass or a ValidationFailed that pickles, and nothing else."""
    for kind in FUZZED:
        try:
            kind.parse(event(data))
        except ValidationFailed as failure:
            caught = failure
        else:
            continue
        assert caught.errors
        assert pickle.loads(pickle.dumps(caught)).errors == caught.errors


def test_registry_lookups_do_not_grow_with_hostile_names() -> None:
    """Names that a payload invents leave nothing behind in the registry."""
    registry = SchemaRegistry({"a*b*c*d*e*": True, "x": True})
    names = random.Random(1)
    before = len(pickle.dumps([each.name for each in registry]))
    for _ in range(1000):
        registry.find("a" * 50 + str(names.random()))
    assert registry.find("ab" * 5000) is None
    assert len(pickle.dumps([each.name for each in registry])) == before
