"""The catalogue: AsyncAPI export, compatibility of versions, checks from the command line."""

import json
from pathlib import Path
from typing import Any

import inngest
import jsonschema
import pytest
import referencing
import yaml
from pydantic import BaseModel

from inngest_plugins.cli import main
from inngest_plugins.validation import EventType, SchemaRegistry
from inngest_plugins.validation.catalogue.asyncapi import asyncapi_document, events_of
from inngest_plugins.validation.catalogue.compatibility import Change, compare_catalogues

APP = """
from typing import Literal
import inngest
from inngest_plugins.validation import EventType, ValidationPlugin
from pydantic import BaseModel

class Line(BaseModel):
    sku: str

class Order(BaseModel):
    id: str
    lines: list[Line]

order_placed = EventType("shop/order.placed", Order)
refunded = EventType("shop/refunded", {"type": "object", "required": ["id"]})
client = inngest.Inngest(
    app_id="shop", is_production=False, middleware=[ValidationPlugin([order_placed, refunded])]
)

@client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
async def fulfil(ctx: inngest.Context) -> None: ...

@client.create_function(fn_id="audit", trigger=inngest.TriggerEvent(event="shop/*"))
async def audit(ctx: inngest.Context) -> None: ...

@client.create_function(fn_id="other", trigger=[
    inngest.TriggerEvent(event="crm/contact"), inngest.TriggerCron(cron="0 0 * * *")])
async def other(ctx: inngest.Context) -> None: ...
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "catalogue_app.py"
    path.write_text(APP)
    return str(path)


class TestExport:
    def test_it_is_valid_asyncapi(self, app: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The export satisfies the official JSON Schema of AsyncAPI 3.0.0."""
        assert main(["schemas", "export", app]) == 0
        document = json.loads(capsys.readouterr().out)
        official = json.loads(
            (Path(__file__).parent / "asyncapi_schema" / "3.0.0.json").read_text()
        )
        jsonschema.Draft7Validator(official, registry=referencing.Registry()).validate(document)

    def test_it_tells_every_event_and_who_triggers_on_it(
        self, app: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Events with and without schema are channels; operations lead from them to functions."""
        assert main(["schemas", "export", app]) == 0
        document = json.loads(capsys.readouterr().out)
        addresses = {each["address"] for each in document["channels"].values()}
        assert addresses == {"shop/order.placed", "shop/refunded", "crm/contact"}
        triggered = {
            (each["x-inngest-function"], each["channel"]["$ref"])
            for each in document["operations"].values()
        }
        assert triggered == {
            ("shop-fulfil", "#/channels/shop_order.placed"),
            ("shop-audit", "#/channels/shop_order.placed"),
            ("shop-audit", "#/channels/shop_refunded"),
            ("shop-other", "#/channels/crm_contact"),
        }
        messages = document["components"]["messages"]
        assert "payload" not in messages["crm_contact"]
        payload = messages["shop_order.placed"]["payload"]["schema"]
        jsonschema.Draft202012Validator(payload).validate({"id": "a", "lines": [{"sku": "s"}]})
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(payload).validate({"id": "a", "lines": [{}]})

    def test_yaml_to_a_file(
        self, app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """--format yaml and --out write the same document."""
        out = tmp_path / "events.yaml"
        assert main(["schemas", "export", app, "--format", "yaml", "--out", str(out)]) == 0
        assert "3 events written" in capsys.readouterr().out
        assert main(["schemas", "export", app]) == 0
        assert yaml.safe_load(out.read_text()) == json.loads(capsys.readouterr().out)

    def test_an_unwritable_file_is_bad_input(
        self, app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 2 and one line."""
        assert main(["schemas", "export", app, "--out", str(tmp_path / "no" / "where")]) == 2
        assert "cannot write" in capsys.readouterr().err

    def test_an_app_without_the_plugin(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 2 and what to do."""
        path = tmp_path / "bare_catalogue_app.py"
        path.write_text(
            "import inngest\n"
            "client = inngest.Inngest(app_id='bare', is_production=False)\n"
            "@client.create_function(fn_id='f', trigger=inngest.TriggerEvent(event='x'))\n"
            "async def f(ctx: inngest.Context) -> None: ...\n"
        )
        assert main(["schemas", "export", str(path)]) == 2
        assert "uses no ValidationPlugin" in capsys.readouterr().err

    def test_names_that_collide_as_keys(self) -> None:
        """Two events whose names make the same key stay two channels; patterns are channels."""
        registry = SchemaRegistry({"a/b": True, "a_b": {"type": "object"}, "a/*": True})
        document = asyncapi_document("app", "1", [registry], [])
        assert {key: each["address"] for key, each in document["channels"].items()} == {
            "a_b": "a/b",
            "a_b-2": "a_b",
            "a_": "a/*",
        }
        assert set(events_of(document)) == {"a/b", "a_b", "a/*"}

    def test_a_pattern_event_meets_an_exact_trigger(self) -> None:
        """A function that an event of a registered pattern can start is told with the pattern."""
        client = inngest.Inngest(app_id="app", is_production=False)

        @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="a/x"))
        async def f(ctx: inngest.Context) -> None:
            return None

        document = asyncapi_document("app", "1", [SchemaRegistry({"a/*": True})], [f])
        assert [each["x-inngest-function"] for each in document["operations"].values()] == ["app-f"]

    def test_folder_schemas_are_bundled(self, tmp_path: Path) -> None:
        """A schema that refers to other files is exported whole."""
        (tmp_path / "_defs.json").write_text('{"$defs": {"id": {"type": "string"}}}')
        (tmp_path / "a.json").write_text('{"properties": {"id": {"$ref": "_defs.json#/$defs/id"}}}')
        document = asyncapi_document("app", "1", [SchemaRegistry(tmp_path)], [])
        payload = document["components"]["messages"]["a"]["payload"]["schema"]
        checker = jsonschema.Draft202012Validator(payload, registry=referencing.Registry())
        checker.validate({"id": "x"})
        assert not checker.is_valid({"id": 1})


def changes(old: Any, new: Any) -> set[tuple[str, str]]:
    found = compare_catalogues({"e": old}, {"e": new})
    return {(each.effect, each.pointer) for each in found}


OBJ: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "n": {"type": ["integer", "string"]}},
    "required": ["id"],
}


def obj(**properties: Any) -> dict[str, Any]:
    return {**OBJ, "properties": {**OBJ["properties"], **properties}}


P, C, R, OK = "breaks producers", "breaks consumers", "risks consumers", "compatible"


class TestCompatibility:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (OBJ, OBJ, set()),
            (OBJ, {**OBJ, "title": "T", "description": "d"}, set()),
            (OBJ, obj(x={"type": "string"}), {(OK, "/x")}),
            (OBJ, {**obj(x={}), "required": ["id", "x"]}, {(P, "/x")}),
            (OBJ, {**OBJ, "required": ["id", "n"]}, {(P, "/n")}),
            (OBJ, {**OBJ, "required": []}, {(R, "/id")}),
            (obj(x={}), OBJ, {(C, "/x")}),
            (obj(x={}), {**OBJ, "additionalProperties": False}, {(P, "/x"), (P, "")}),
            ({**OBJ, "additionalProperties": False}, OBJ, {(R, "")}),
            (OBJ, obj(n={"type": "integer"}), {(P, "/n")}),
            (obj(n={"type": "integer"}), obj(n={"type": "number"}), {(R, "/n")}),
            (obj(n={"type": "number"}), obj(n={"type": "integer"}), {(P, "/n")}),
            (obj(n={"type": "integer"}), OBJ, {(R, "/n")}),
            (obj(s={"enum": ["a", "b"]}), obj(s={"enum": ["a"]}), {(P, "/s")}),
            (obj(s={"enum": ["a"]}), obj(s={"enum": ["a", "b"]}), {(R, "/s")}),
            (obj(s={"type": "string"}), obj(s={"type": "string", "enum": ["a"]}), {(P, "/s")}),
            (obj(s={"type": "string", "enum": ["a"]}), obj(s={"type": "string"}), {(R, "/s")}),
            (obj(s={"const": 1}), obj(s={"const": 2}), {(P, "/s"), (R, "/s")}),
            (obj(s={"maximum": 5}), obj(s={"maximum": 4}), {(P, "/s")}),
            (obj(s={"maximum": 4}), obj(s={"maximum": 5}), {(R, "/s")}),
            (obj(s={"minLength": 1}), obj(s={"minLength": 2}), {(P, "/s")}),
            (obj(s={"minLength": 1}), obj(s={}), {(R, "/s")}),
            (obj(s={}), obj(s={"minItems": 1}), {(P, "/s")}),
            (obj(s={"pattern": "a"}), obj(s={"pattern": "b"}), {(P, "/s")}),
            (
                obj(s={"type": "string", "pattern": "a"}),
                obj(s={"type": "string"}),
                {(R, "/s")},
            ),
            (
                obj(a={"type": "array", "items": {"type": "string"}}),
                obj(a={"type": "array", "items": {"type": "integer"}}),
                {(P, "/a/*")},
            ),
            (
                obj(a={"prefixItems": [{"type": "string"}]}),
                obj(a={"prefixItems": [{"type": "null"}]}),
                {(P, "/a/0")},
            ),
            (
                obj(a={"anyOf": [{"type": "string"}, {"type": "null"}]}),
                obj(a={"type": "string"}),
                {(P, "/a")},
            ),
            (
                obj(a={"type": "string"}),
                obj(a={"anyOf": [{"type": "string"}, {"type": "null"}]}),
                {(R, "/a")},
            ),
            (
                obj(a={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                obj(a={"anyOf": [{"type": "number"}, {"type": "null"}]}),
                {(R, "/a")},
            ),
            (
                obj(a={"anyOf": [{"type": "object", "required": ["x"]}, {"type": "null"}]}),
                obj(a={"oneOf": [{"type": "object", "required": ["x", "y"]}, {"type": "null"}]}),
                {(P, "/a/y")},
            ),
            (obj(s={"not": {"const": 1}}), obj(s={"not": {"const": 2}}), {(P, "/s")}),
            (
                obj(s={"type": "string", "not": {}}),
                obj(s={"type": "string"}),
                {(R, "/s")},
            ),
            (obj(s={"x-a": 1, "type": "null"}), obj(s={"x-a": 2, "type": "null"}), set()),
            (obj(s=True), obj(s=False), {(P, "/s")}),
            (obj(s=False), obj(s=True), {(R, "/s")}),
            (obj(s={"type": "null"}), obj(s=False), {(P, "/s")}),
            (obj(s=True), obj(s={"type": "null"}), {(P, "/s")}),
            (obj(s={"type": "null"}), obj(s=True), {(R, "/s")}),
            (None, OBJ, {(P, "")}),
            (OBJ, None, {(R, "")}),
            (
                {"$ref": "#/$defs/a", "$defs": {"a": OBJ}},
                {"$ref": "#/$defs/b", "$defs": {"b": {**OBJ, "required": []}}},
                {(R, "/id")},
            ),
            (
                {"additionalProperties": {"type": "string"}},
                {"additionalProperties": {"type": "null"}},
                {(P, "/*")},
            ),
        ],
    )
    def test_changes(self, old: Any, new: Any, expected: set[tuple[str, str]]) -> None:
        """Each kind of change has the effect it has, at the place where it is."""
        assert changes(old, new) == expected

    def test_recursive_schemas_end(self) -> None:
        """Two recursive schemas are compared once per place."""

        def tree(kind: str) -> dict[str, Any]:
            return {"properties": {"v": {"type": kind}, "next": {"$ref": "#"}}}

        assert (P, "/v") in changes(tree("string"), tree("integer"))

    def test_references_between_bundled_documents(self) -> None:
        """A reference by $id is followed into the bundle; one that leads nowhere is opaque."""

        def bundled(kind: str) -> dict[str, Any]:
            return {
                "properties": {"a": {"$ref": "urn:x#/$defs/y/0"}, "b": {"$ref": "urn:none"}},
                "$defs": {"x": {"$id": "urn:x", "$defs": {"y": [{"type": kind}]}}},
            }

        assert changes(bundled("string"), bundled("null")) == {(P, "/a")}

    def test_events_come_and_go(self) -> None:
        """A removed event breaks consumers; a new one nobody."""
        found = compare_catalogues({"old": True}, {"new": True})
        assert found == [
            Change("new", "", "compatible", "the event is new"),
            Change("old", "", "breaks consumers", "the event was removed"),
        ]
        assert [each.breaks for each in found] == [False, True]

    def test_models_of_two_versions(self) -> None:
        """Pydantic models are compared through their exported schemas."""

        class Line(BaseModel):
            sku: str
            note: str | None = None

        class Order(BaseModel):
            lines: list[Line]

        class NewLine(BaseModel):
            sku: int
            note: str

        class NewOrder(BaseModel):
            lines: list[NewLine]

        def catalogue(model: type[BaseModel]) -> dict[str, Any]:
            registry = SchemaRegistry([EventType("e", model)])
            return events_of(asyncapi_document("a", "1", [registry], []))

        found = compare_catalogues(catalogue(Order), catalogue(NewOrder))
        assert {(each.effect, each.pointer) for each in found} == {
            (P, "/lines/*/sku"),
            (P, "/lines/*/note"),
        }


class TestDiffCommand:
    def write(self, path: Path, **schemas: Any) -> str:
        registry = SchemaRegistry(schemas)
        path.write_text(json.dumps(asyncapi_document("a", "1", [registry], [])))
        return str(path)

    def test_exit_codes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """0 when nothing breaks, 1 when something does, and risks count under --strict."""
        old = self.write(tmp_path / "old.json", e=OBJ)
        wider = self.write(tmp_path / "wider.json", e={**OBJ, "required": []})
        broken = self.write(tmp_path / "broken.json", e=obj(n={"type": "integer"}))
        assert main(["schemas", "diff", old, old]) == 0
        assert "0 changes" in capsys.readouterr().out
        assert main(["schemas", "diff", old, wider]) == 0
        assert "risks consumers: e /id: the property is optional now" in capsys.readouterr().out
        assert main(["schemas", "diff", old, wider, "--strict"]) == 1
        capsys.readouterr()
        assert main(["schemas", "diff", old, broken]) == 1
        out = capsys.readouterr().out
        assert "breaks producers: e /n: the type was narrowed" in out
        assert "1 changes, 1 of them breaking" in out

    def test_bad_input(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file that is missing, no JSON or no AsyncAPI is exit code 2 and one line."""
        good = self.write(tmp_path / "good.json", e=OBJ)
        for name, text in (("a.json", "{"), ("b.json", "{}"), ("c.yaml", "["), ("d.json", None)):
            path = tmp_path / name
            if text is not None:
                path.write_text(text)
            assert main(["schemas", "diff", good, str(path)]) == 2
            assert len(capsys.readouterr().err.strip().splitlines()) == 1


class TestCheckCommand:
    def test_verdicts(self, app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """0 for good events and the engine's own, 1 with the violations for bad ones."""
        good = {"name": "shop/order.placed", "data": {"id": "a", "lines": []}}
        bad = {"name": "shop/order.placed", "data": {"id": "a", "lines": "canary"}}
        path = tmp_path / "event.json"
        path.write_text(json.dumps([good, {"name": "inngest/function.failed"}]))
        assert main(["schemas", "check", app, str(path)]) == 0
        out = capsys.readouterr().out
        assert "shop/order.placed: valid" in out
        assert "inngest/function.failed: not checked" in out
        path.write_text(json.dumps(good), "utf-8-sig")
        assert main(["schemas", "check", app, str(path)]) == 0
        assert "shop/order.placed: valid" in capsys.readouterr().out
        path.write_text(json.dumps([good, bad]))
        assert main(["schemas", "check", app, str(path)]) == 1
        out = capsys.readouterr().out
        assert "/lines: list_type: expected a valid list" in out
        assert "canary" not in out

    def test_a_name_without_schema(
        self, app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 1, so that a misspelt name does not pass a gate; a close name is offered."""
        path = tmp_path / "event.json"
        path.write_text(json.dumps([{"name": "shop/order.placd"}, {"name": "telemetry"}]))
        assert main(["schemas", "check", app, str(path)]) == 1
        out = capsys.readouterr().out
        assert out.splitlines() == [
            "shop/order.placd: no schema; is it shop/order.placed?",
            "telemetry: no schema",
        ]

    @pytest.mark.parametrize(
        ("name", "contents", "told"),
        [
            ("event.json", b"[]", "event.json is an empty list: give at least one event"),
            ("event.json", b'{"name":\n "a" 1}', "is not JSON: Expecting ',' delimiter at line 2"),
            ("event.json", b"[" * 200_000, "is JSON that nests deeper than 200 levels"),
            ("event.json", b"[" * 300 + b"]" * 300, "is JSON that nests deeper than 200 levels"),
            ("event.json", b'"\xff"', "is not UTF-8 text"),
            ("event.yaml", b"name: a\ndata: [canary", "is not YAML: there is an error at line 2"),
            ("event.yaml", b"name: a\x00b", "is not YAML that can be read"),
        ],
    )
    def test_unreadable_input(
        self,
        app: str,
        tmp_path: Path,
        name: str,
        contents: bytes,
        told: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Exit code 2 and one line that says where, without the text itself."""
        path = tmp_path / name
        path.write_bytes(contents)
        assert main(["schemas", "check", app, str(path)]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert "canary" not in err
        assert err.count("\n") == 1

    def test_standard_input(
        self, app: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """- reads the event from standard input."""
        import io

        monkeypatch.setattr("sys.stdin", io.StringIO('{"name": "shop/refunded", "data": {}}'))
        assert main(["schemas", "check", app, "-"]) == 1
        assert "/id: required" in capsys.readouterr().out
        monkeypatch.setattr("sys.stdin", io.StringIO("{"))
        assert main(["schemas", "check", app, "-"]) == 2
        assert "standard input is not JSON: " in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["{", "[1]", '{"name": 1}', '{"name": "a", "data": 1}'])
    def test_bad_input(
        self, app: str, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What holds no event is exit code 2."""
        path = tmp_path / "event.json"
        path.write_text(text)
        assert main(["schemas", "check", app, str(path)]) == 2
        assert "event.json" in capsys.readouterr().err
