"""The required cases of the JSON-Schema-Test-Suite, draft 2020-12, through our own registry.

Every case runs under both engines: each must give the suite's verdict, and where a value is
invalid both must name the same places and rules.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.validation._dialects import Library
from inngest_plugins.validation._json_schema import JsonSchema
from inngest_plugins.validation._violations import Rejection

SUITE = Path(__file__).parent / "json_schema_test_suite"
REMOTES = SUITE / "remotes"


@pytest.fixture(scope="module")
def library() -> Library:
    """The suite's remote documents, at the addresses the suite says they are served from."""
    documents: dict[str, Any] = {
        f"http://localhost:1234/{path.relative_to(REMOTES).as_posix()}": json.loads(
            path.read_text()
        )
        for path in sorted(REMOTES.rglob("*.json"))
    }
    return Library(documents)


def cases() -> list[Any]:
    found: list[Any] = []
    for path in sorted((SUITE / "tests" / "draft2020-12").glob("*.json")):
        for case in json.loads(path.read_text()):
            found.append(pytest.param(case, id=f"{path.stem}: {case['description']}"))
    return found


def verdict(schema: JsonSchema, value: Any) -> list[tuple[str, str]] | None:
    """None for a valid value, else the (pointer, rule) of each violation."""
    try:
        schema.parse(value)
    except Rejection as rejection:
        return [(each.pointer, each.rule) for each in rejection.violations]
    return None


@pytest.mark.parametrize("case", cases())
def test_required_cases(case: dict[str, Any], library: Library) -> None:
    """Each engine agrees with the suite, and with the other on every place and rule."""
    python = JsonSchema(case["schema"], where="suite", engine="jsonschema", library=library)
    rust = JsonSchema(case["schema"], where="suite", engine="jsonschema-rs", library=library)
    for test in case["tests"]:
        found = verdict(python, test["data"])
        assert (found is None) == test["valid"], test["description"]
        assert verdict(rust, test["data"]) == found, test["description"]


def test_the_suite_is_whole() -> None:
    """Nothing went missing from the copied suite: 1299 tests, as counted at its commit."""
    assert sum(len(case.values[0]["tests"]) for case in cases()) == 1299
