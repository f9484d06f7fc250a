"""Both JSON Schema engines: the same verdicts, places, rules and words on one corpus."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inngest_plugins.validation import SchemaError
from inngest_plugins.validation.schemas.json_schema import MAX_DEPTH, JsonSchema
from inngest_plugins.validation.schemas.patterns import PatternError, matcher
from inngest_plugins.validation.schemas.schema import (
    MAX_VIOLATIONS,
    EngineName,
    Rejection,
    Violation,
)

ENGINES: tuple[EngineName, ...] = ("jsonschema", "jsonschema-rs")
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"

ORDER: dict[str, Any] = {
    "$defs": {
        "line": {
            "type": "object",
            "required": ["sku", "quantity"],
            "properties": {
                "sku": {"type": "string", "pattern": r"^[A-Z]{2}-\d+$"},
                "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
                "price": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.01},
                "tags": {"type": "array", "uniqueItems": True, "maxItems": 3},
            },
            "additionalProperties": False,
        }
    },
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 8},
        "state": {"enum": ["open", "paid", 3, None]},
        "version": {"const": 2},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1},
        "payment": {
            "oneOf": [
                {"properties": {"card": {"type": "string"}}, "required": ["card"]},
                {"properties": {"iban": {"type": "string"}}, "required": ["iban"]},
            ]
        },
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "flags": {"type": "object", "propertyNames": {"maxLength": 3}, "maxProperties": 2},
        "pair": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
        "roles": {"contains": {"const": "admin"}, "maxContains": 1},
        "never": False,
        "x": {"not": {"type": "string"}},
    },
    "patternProperties": {"^n_": {"type": "number"}},
    "dependentRequired": {"pair": ["state"]},
    "if": {"properties": {"state": {"const": "paid"}}, "required": ["state"]},
    "then": {"required": ["payment"]},
    "else": {"required": ["lines"]},
}

CORPUS: list[tuple[Any, Any]] = [
    (ORDER, {"id": "a", "lines": [{"sku": "AB-1", "quantity": 1, "price": 19.99}]}),
    (ORDER, {"id": "", "lines": []}),
    (ORDER, {"id": "123456789", "lines": [{"sku": "x", "quantity": 0, "price": 0, "z": 1}]}),
    (ORDER, {"state": "paid"}),
    (ORDER, {"id": "a", "state": "paid", "payment": {"card": "1", "iban": "2"}}),
    (ORDER, {"id": "a", "state": "paid", "payment": {}}),
    (ORDER, {"id": 1, "state": "lost", "version": 3, "lines": 4, "note": 5, "x": "6"}),
    (ORDER, {"id": "a", "lines": [{}, {"sku": 1, "quantity": 1.5, "tags": [1, 1.0, "a", "b"]}]}),
    (ORDER, {"id": "a", "lines": [{"sku": "AB-1", "quantity": 100, "tags": [1, True]}]}),
    (ORDER, {"id": "a", "lines": 1, "flags": {"long": 1, "longer": 2, "c": 3}}),
    (ORDER, {"id": "a", "lines": 1, "pair": ["a", "b", "c", "d"]}),
    (ORDER, {"id": "a", "lines": 1, "roles": ["admin", "admin"]}),
    (ORDER, {"id": "a", "lines": 1, "roles": []}),
    (ORDER, {"id": "a", "lines": 1, "never": 1, "n_a": "x", "n_b": 2}),
    (ORDER, []),
    ({"type": "number"}, math.nan),
    ({"type": ["integer", "null"]}, math.inf),
    ({"multipleOf": 0.1}, 0.3),
    ({"multipleOf": 0.01}, 19.999),
    ({"multipleOf": 7}, 10**40),
    ({"type": "integer"}, 1.0),
    ({"maximum": 5}, 10**30),
    ({"pattern": r"^\d$"}, "\u0661"),
    ({"pattern": "^a$"}, "a\n"),
    ({"pattern": r"^\S+$"}, "a\u00a0b"),
    ({"pattern": r"^(?!x)(?=.*\d).{2,}$"}, "ab1"),
    ({"pattern": r"^(?!x)(?=.*\d).{2,}$"}, "xb1"),
    ({"pattern": r"^\p{Letter}+$"}, "é"),
    ({"minLength": 2}, "\U0001f600"),
    ({"unevaluatedProperties": False, "properties": {"a": True}}, {"a": 1, "b": 2}),
    ({"unevaluatedItems": False, "prefixItems": [True]}, [1, 2, 3]),
    ({"$schema": DRAFT_4, "maximum": 3, "exclusiveMaximum": True}, 3),
    ({"$schema": DRAFT_7, "items": [True], "additionalItems": False}, [1, 2]),
    ({"$schema": DRAFT_7, "items": [True], "additionalItems": {"type": "null"}}, [1, 2]),
    ({"$schema": DRAFT_7, "dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, {"a": 1}),
    ({"$schema": DRAFT_7, "dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, {"c": 1}),
    ({"$schema": DRAFT_7, "dependencies": {"a": ["b"]}, "items": {"type": "null"}}, [1]),
    ({"$schema": DRAFT_7, "items": [True], "additionalItems": False}, {"a": 1}),
    ({"type": "object", "oneOf": [{"minProperties": 9}], "x-y": 1}, {"a": 1}),
    ({"$schema": DRAFT_7, "contentEncoding": "base64"}, "!!"),
    ({"$schema": DRAFT_7, "definitions": {"a": {"type": "null"}}, "$ref": "#/definitions/a"}, 1),
    ({"$schema": DRAFT_2019, "items": [{"type": "null"}], "additionalItems": False}, [1, 2]),
    ({"properties": {"a": {"$ref": "#"}}, "additionalProperties": False}, {"a": {"b": 1}}),
    (False, 1),
]


def violations(schema: Any, value: Any, engine: EngineName) -> list[Violation]:
    try:
        JsonSchema(schema, where="corpus", engine=engine).parse(value)
    except Rejection as rejection:
        return list(rejection.violations)
    return []


@pytest.mark.parametrize("index", range(len(CORPUS)))
def test_engines_agree_on_the_corpus(index: int) -> None:
    """Pointer, rule and words are the same for both engines."""
    schema, value = CORPUS[index]
    assert violations(schema, value, "jsonschema") == violations(schema, value, "jsonschema-rs")


def test_the_corpus_breaks_many_rules() -> None:
    """The corpus is no formality: it breaks a good part of all keywords, and passes some."""
    rules = {v.rule for schema, value in CORPUS for v in violations(schema, value, "jsonschema")}
    assert len(rules) >= 27
    assert sum(not violations(schema, value, "jsonschema") for schema, value in CORPUS) >= 6


@pytest.mark.parametrize("engine", ENGINES)
def test_violations_say_where_and_what(engine: EngineName) -> None:
    """Places are sorted, properties that lack are named, expectations come from the schema."""
    value = {"id": "123456789", "lines": [{"sku": "x", "quantity": 0, "z": 1}], "state": "s"}
    assert [
        (each.pointer, each.rule, each.expected) for each in violations(ORDER, value, engine)
    ] == [
        ("/id", "maxLength", "at most 8 characters"),
        ("/lines/0/quantity", "minimum", "a number of at least 1"),
        ("/lines/0/sku", "pattern", 'text matching "^[A-Z]{2}-\\\\d+$"'),
        ("/lines/0/z", "additionalProperties", "no property of this name"),
        ("/state", "enum", 'one of "open", "paid", 3, null'),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([*sorted(ORDER["properties"]), "n_a", "sku", "quantity", "tags", "card"])
ORDERS = st.dictionaries(
    NAMES, JSON | st.lists(st.dictionaries(NAMES, JSON, max_size=4), max_size=3), max_size=6
)
_COMPILED = {engine: JsonSchema(ORDER, where="order", engine=engine) for engine in ENGINES}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=ORDERS | JSON)
def test_engines_agree_on_anything(value: Any) -> None:
    """On generated JSON values both engines find the same violations."""
    found: list[object] = []
    for engine in ENGINES:
        try:
            _COMPILED[engine].parse(value)
            found.append(None)
        except Rejection as rejection:
            found.append((rejection.violations, rejection.omitted))
    assert found[0] == found[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_violations_are_capped(engine: EngineName) -> None:
    """At most MAX_VIOLATIONS are listed, the first in the value's order; the rest is counted."""
    schema = JsonSchema({"items": {"type": "string"}}, where="cap", engine=engine)
    with pytest.raises(Rejection) as caught:
        schema.parse(list(range(50)))
    assert [each.pointer for each in caught.value.violations] == [
        f"/{index}" for index in range(MAX_VIOLATIONS)
    ]
    assert caught.value.omitted == 50 - MAX_VIOLATIONS


@pytest.mark.parametrize("engine", ENGINES)
def test_recursive_schemas_bound_the_depth(engine: EngineName) -> None:
    """A schema that recurses refuses what nests deeper than MAX_DEPTH, and takes what does not."""
    schema = JsonSchema(
        {"type": "object", "properties": {"a": {"allOf": [{"$ref": "#"}]}}},
        where="tree",
        engine=engine,
    )
    value: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 2):
        value = {"a": value}
    assert schema.parse(value) is value
    with pytest.raises(Rejection) as caught:
        schema.parse({"a": {"a": {"a": value}}})
    assert caught.value.violations[0].rule == "depth"


@pytest.mark.parametrize("engine", ENGINES)
def test_recursion_through_alternatives_is_not_exponential(engine: EngineName) -> None:
    """Two recursing members of an anyOf at 60 levels take milliseconds, valid or not."""
    branch = {"type": "object", "properties": {"l": {"$ref": "#"}}, "required": ["l", "op"]}
    schema = JsonSchema(
        {
            "oneOf": [
                {"required": ["v"], "properties": {"v": {"type": "integer"}}},
                {**branch, "properties": {"l": {"$ref": "#"}, "op": {"const": "and"}}},
                {**branch, "properties": {"l": {"$ref": "#"}, "op": {"const": "or"}}},
            ]
        },
        where="expression",
        engine=engine,
    )
    for leaf, good in ((1, True), ("x", False)):
        value: dict[str, Any] = {"v": leaf}
        for _ in range(60):
            value = {"l": value, "op": "or"}
        if good:
            schema.parse(value)
        else:
            with pytest.raises(Rejection):
                schema.parse(value)


@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_are_no_json_are_refused(engine: EngineName) -> None:
    """A value no engine can read ends in a rejection, never in another exception."""
    schema = JsonSchema(
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}},
        where="odd",
        engine=engine,
    )
    for odd in ({"a": b"x"}, {"a": {1, 2}}, {"a": object()}, object()):
        with pytest.raises(Rejection):
            schema.parse(odd)


class TestSchemaErrors:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("schema", "told"),
        [
            ({"properties": {"a": {"type": "nonsense"}}}, "event x: at /properties/a/type"),
            ({"properties": {"a": {"$ref": "#/$defs/b"}}}, r"at /properties/a/\$ref"),
            ({"items": {"$ref": "https://example.com/b.json"}}, "leads nowhere"),
            ({"$ref": "#"}, "never end"),
            ({"allOf": [{"anyOf": [{"$ref": "#"}]}]}, "never end"),
            ({"properties": {"a": {"pattern": "(("}}}, "at /properties/a/pattern"),
            ({"patternProperties": {"((": True}}, r"at /patternProperties/\(\("),
            ({"pattern": "a{1000}{1000}{1000}"}, "size limit"),
            ({"pattern": r"(?=a)(("}, "cannot be used"),
            ({"$schema": "https://example.com/dialect"}, "is no dialect this supports"),
            ({"$schema": "http://json-schema.org/draft-03/schema#"}, "is no dialect"),
            ({"enum": [float("nan")]}, "no JSON value"),
            ({"const": {1, 2}}, "no JSON value"),
        ],
    )
    def test_wrong_schemas_fail_when_built(
        self, schema: Any, told: str, engine: EngineName
    ) -> None:
        """The error names what the schema is for and the place in it."""
        with pytest.raises(SchemaError, match=told) as caught:
            JsonSchema(schema, where="event x", engine=engine)
        assert str(caught.value).startswith("event x: ")

    def test_an_unknown_engine_is_refused(self) -> None:
        """An engine that does not exist is an error that names those that do."""
        with pytest.raises(SchemaError, match="jsonschema, jsonschema-rs or auto"):
            JsonSchema(True, where="event x", engine="fast")  # type: ignore[arg-type]

    def test_a_missing_engine_names_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without jsonschema-rs, auto takes jsonschema, and asking for it names the extra."""
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert JsonSchema(True, where="event x").engine_name == "jsonschema"
        with pytest.raises(SchemaError, match=r"inngest-plugins\[validation-fast\]"):
            JsonSchema(True, where="event x", engine="jsonschema-rs")

    def test_auto_takes_the_fast_engine(self) -> None:
        """Where jsonschema-rs is installed, auto uses it, and repr tells."""
        assert "jsonschema-rs" in repr(JsonSchema(True, where="event x"))

    def test_editing_the_dict_later_changes_nothing(self) -> None:
        """The schema is what it was when it was registered."""
        mutable: dict[str, Any] = {"type": "string"}
        schema = JsonSchema(mutable, where="event x")
        mutable["type"] = "integer"
        with pytest.raises(Rejection):
            schema.parse(1)


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "text", "found"),
        [
            (r"^\w+$", "aé", False),
            (r"^\W$", "é", True),
            (r"^[\W]$", "é", True),
            (r"^\D$", "\u0661", True),
            (r"^\s$", "\ufeff", True),
            (r"^[^\s]$", "a", True),
            (r"\cJ", "\n", True),
            (r"^\0$", "\x00", True),
            (r"^[\b]$", "\x08", True),
            (r"\bfoo\b", "éfooé", True),
            (r"^\/$", "/", True),
            (r"^[[a]$", "[", True),
            (r"^[&&]$", "&", True),
            (r"^\ud83d\ude00$", "\U0001f600", True),
            (r"^[^]]$", "a", True),
            (r"^\\(1)$", "\\1", True),
            (r"^(a)\1$", "aa", True),
            (r"^(a)\1$", "ab", False),
            (r"^(?<n>a)\k<n>$", "aa", True),
            (r"^(?=\d)(?!1)[\S].$", "2x", True),
            (r"^(?=a)[\W\w]$", "a\n", False),
        ],
    )
    def test_patterns_mean_what_ecma_says(self, pattern: str, text: str, found: bool) -> None:
        """ECMA 262 patterns keep their meaning in the engines that match them."""
        assert matcher(pattern)(text) is found

    def test_look_around_needs_the_regex_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without it the error says how to write the pattern otherwise, or what to install."""

        def missing(name: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr("importlib.import_module", missing)
        with pytest.raises(PatternError, match="pip install regex"):
            matcher("(?=unseen pattern)")
