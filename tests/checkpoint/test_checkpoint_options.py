"""Options: wrong values are refused when the plugin is built, and by doctor."""

from __future__ import annotations

import datetime
from typing import Any

import httpx
import inngest
import pytest
from tests.core.core_protocol import Engine, make_client, serve

from inngest_plugins.checkpoint import CheckpointOptionError, CheckpointPlugin, _options
from inngest_plugins.core import PluginsError, RegistrationError, Stack

HOUR = datetime.timedelta(hours=1)

WRONG: list[tuple[str, Any]] = [
    ("max_runtime", 0),
    ("max_runtime", -1),
    ("max_runtime", "10"),
    ("max_runtime", True),
    ("max_runtime", float("nan")),
    ("max_runtime", float("inf")),
    ("max_runtime", 10**400),
    ("max_runtime", datetime.timedelta()),
    ("buffer", 0),
    ("buffer", 1001),
    ("buffer", 1.0),
    ("buffer", True),
    ("buffer", None),
    ("max_interval", 0),
    ("max_interval", "1s"),
    ("give_up_after", None),
    ("give_up_after", 0),
    ("functions", "fn"),
    ("functions", 1),
    ("functions", [""]),
    ("functions", [3]),
    ("exclude", "fn"),
    ("exclude", None),
]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_wrong_values_are_refused(option: str, value: Any) -> None:
    """The error names the option, what it may be, and what was given."""
    with pytest.raises(CheckpointOptionError, match=rf"^CheckpointPlugin\({option}=\.\.\.\) is "):
        CheckpointPlugin(**{option: value})


def test_the_error_is_a_plugins_error() -> None:
    """It can be caught with all errors of the project, and as what it is."""
    assert issubclass(CheckpointOptionError, (PluginsError, ValueError))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_runtime": None},
        {"max_runtime": HOUR, "max_interval": HOUR, "give_up_after": HOUR},
        {"max_runtime": 0.5, "buffer": 1000, "max_interval": 3},
        {"functions": {"fn"}, "exclude": ("other",)},
    ],
)
def test_right_values(options: dict[str, Any]) -> None:
    """Numbers and timedeltas, lists and sets."""
    assert CheckpointPlugin(**options).delivery is not None


def test_two_in_one_list_are_refused() -> None:
    """Neither could work beside the other."""
    with pytest.raises(RegistrationError):
        Stack(CheckpointPlugin(), CheckpointPlugin(buffer=2))


def test_doctor_finds_ids_that_no_function_has() -> None:
    """By the app's id or the engine's."""
    client = make_client()

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="shop/test"))
    async def function(ctx: inngest.Context) -> None:
        return None

    plugin = CheckpointPlugin(functions=["fn", "gone"], exclude=["shop-fn", "shop-gone"])
    assert list(plugin.diagnose_functions([function])) == [
        "CheckpointPlugin(functions=...) names 'gone', and the app has no function with that id",
        "CheckpointPlugin(exclude=...) names 'shop-gone', and the app has no function with that id",
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, None),
        ({"max_interval": 5}, "has no effect with buffer=1"),
        ({"max_interval": 5, "buffer": 2}, None),
        ({"functions": []}, "leaves no function"),
        ({"functions": ["fn"], "exclude": ["fn"]}, "leaves no function"),
        ({"functions": ["fn"], "exclude": ["other"]}, None),
    ],
)
def test_doctor_finds_options_without_effect(options: dict[str, Any], found: str | None) -> None:
    """They were meant to do something."""
    plugin = CheckpointPlugin(**options)
    findings = list(plugin.diagnose(Stack(plugin)))
    assert len(findings) == (found is not None)
    assert found is None or found in findings[0]


@pytest.mark.parametrize(
    ("host", "patched", "delivers"),
    [
        ("fastapi-async", "HTTP_SECONDS", False),
        ("fastapi-async", "CONNECT_SECONDS", True),
        ("connect", "CONNECT_SECONDS", False),
        ("connect", "HTTP_SECONDS", True),
    ],
)
def test_the_default_runtime_depends_on_the_transport(
    monkeypatch: pytest.MonkeyPatch, host: str, patched: str, *, delivers: bool
) -> None:
    """10 seconds over HTTP, 5 minutes over `connect`."""
    assert (_options.HTTP_SECONDS, _options.CONNECT_SECONDS) == (10, 300)
    monkeypatch.setattr(_options, patched, 1e-9)

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: 1)

    app = serve(host, body, CheckpointPlugin())
    with Engine(lambda request: httpx.Response(200)).serving(app.client):
        reply = app.post(identity={"fn_id": "f-1"})
    assert reply.status == (200 if delivers else 206)
