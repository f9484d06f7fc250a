"""Wrong arguments of the test harness are named in the error, as is the extra that it needs."""

from __future__ import annotations

import subprocess
import sys
import typing

import inngest
import pytest

from inngest_plugins.testing import Harness, calls, raises

client = inngest.Inngest(app_id="shop", is_production=False)


@client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"))
async def function(ctx: inngest.Context) -> None:
    """Completes."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stubs": ["a"]}, r"^stubs must be a dict from step ids, .*, not list$"),
        ({"stubs": []}, r"^stubs must be a dict .*, not list$"),
        ({"stubs": {3: "a"}}, r"^stubs must be a dict .*; it has the key 3$"),
        ({"stubs": {("f", "a", "b"): 1}}, r"it has the key \('f', 'a', 'b'\)$"),
        ({"timeout": "3"}, "^timeout must be a number of seconds or None, not str$"),
        ({"functions": 3}, "^functions must be a list of Inngest functions, not int$"),
        ({"client": None}, "^client must be an inngest.Inngest client, not NoneType$"),
    ],
)
def test_the_harness_names_a_wrong_argument(arguments: dict[str, typing.Any], message: str) -> None:
    """An argument of a wrong type is a TypeError that says what it takes."""
    given: dict[str, typing.Any] = {"client": client, "functions": function, **arguments}
    with pytest.raises(TypeError, match=message):
        Harness(**given)


def test_stubs_name_a_wrong_argument() -> None:
    """What cannot be raised or called is refused where it is written."""
    wrong: typing.Any = 3
    with pytest.raises(TypeError, match=r"^raises\(\) takes an exception or its class, not int$"):
        raises(wrong)
    with pytest.raises(TypeError, match=r"^calls\(\) takes a function, not int$"):
        calls(wrong)
    wrong = int
    with pytest.raises(TypeError, match=r"^raises\(\) takes an exception"):
        raises(wrong)


def test_a_missing_extra_is_named_for_testing() -> None:
    """Without fastapi the message says to install what the documentation of testing says."""
    program = """
import sys
sys.modules["fastapi"] = None
import inngest_plugins.testing
try:
    inngest_plugins.testing.Harness
except ImportError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True
    )
    assert 'pip install "inngest-plugins[testing]"' in ended.stdout
    assert "inngest_plugins.testing needs fastapi" in ended.stdout
