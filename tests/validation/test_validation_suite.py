"""The required tests of the JSON-Schema-Test-Suite, five drafts, through our own registry.

Every case runs under both engines: each must give the suite's verdict, and where a value is
invalid both must name the same places and rules.
"""

import functools
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.validation.schemas.documents import Library
from inngest_plugins.validation.schemas.json_schema import JsonSchema
from inngest_plugins.validation.schemas.schema import Rejection

SUITE = Path(__file__).parent / "json_schema_test_suite" / "required.json.xz"

DIALECTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}


@functools.cache
def suite() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(lzma.decompress(SUITE.read_bytes()))
    return loaded


def in_dialect(draft: str, schema: Any) -> Any:
    """A schema that says which draft it is of, as the suite leaves it to the folder."""
    return {"$schema": DIALECTS[draft], **schema} if isinstance(schema, dict) else schema


@functools.cache
def library(draft: str) -> Library:
    """The suite's remote documents, at the addresses the suite says they are served from."""
    others = tuple(name for name in DIALECTS if name != draft)
    documents: dict[str, Any] = {
        f"http://localhost:1234/{path}": in_dialect(draft, document)
        for path, document in suite()["remotes"].items()
        if not path.startswith(tuple(f"{name}/" for name in others))
    }
    return Library(documents)


FILES = [(draft, file) for draft in DIALECTS for file in suite()["tests"][draft]]


def verdict(schema: JsonSchema, value: Any) -> list[tuple[str, str]] | None:
    """None for a valid value, else the (pointer, rule) of each violation."""
    try:
        schema.parse(value)
    except Rejection as rejection:
        return [(each.pointer, each.rule) for each in rejection.violations]
    return None


@pytest.mark.parametrize(("draft", "file"), FILES)
def test_required_tests(draft: str, file: str) -> None:
    """Each engine agrees with the suite, and with the other on every place and rule."""
    for case in suite()["tests"][draft][file]:
        schema = in_dialect(draft, case["schema"])
        python = JsonSchema(schema, where="s", engine="jsonschema", library=library(draft))
        rust = JsonSchema(schema, where="s", engine="jsonschema-rs", library=library(draft))
        for test in case["tests"]:
            told = f"{case['description']}: {test['description']}"
            found = verdict(python, test["data"])
            assert (found is None) == test["valid"], told
            assert verdict(rust, test["data"]) == found, told


def test_the_suite_is_whole() -> None:
    """Nothing went missing from the copied suite: 4942 tests, as counted at its commit."""
    cases = [case for draft, file in FILES for case in suite()["tests"][draft][file]]
    assert sum(len(case["tests"]) for case in cases) == 4942
