"""Wrong options of the OpenTelemetry plugin are named where they are given."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider


@pytest.mark.parametrize("option", ["tracer_provider", "meter_provider"])
@pytest.mark.parametrize("given", ["otlp", replay_safe_provider, 3, dict])
def test_what_is_no_provider_is_refused(option: str, given: Any) -> None:
    """The plugin fails open, so that it would otherwise only show in the log of each request."""
    options: dict[str, Any] = {option: given}
    with pytest.raises(TypeError, match=f"{option}.* takes an object with get_"):
        OpenTelemetryPlugin(**options)


def test_make_replay_safe_before_any_provider_says_so() -> None:
    """The line stands too early: the message names what must come first."""
    program = (
        "from opentelemetry import trace\n"
        "from inngest_plugins.otel import make_replay_safe\n"
        "make_replay_safe(trace.get_tracer_provider())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False
    )
    assert "trace.set_tracer_provider(...) first" in done.stderr


SWITCHES = [
    name
    for name in inspect.signature(OpenTelemetryPlugin).parameters
    if not name.endswith("_provider")
]


@pytest.mark.parametrize("option", SWITCHES)
@pytest.mark.parametrize("given", ["false", "", 0, 1])
def test_a_switch_is_no_text(option: str, given: object) -> None:
    """The text "false", from a variable of the environment, does not switch on."""
    options: dict[str, Any] = {option: given}
    kind = type(given).__name__
    with pytest.raises(TypeError, match=f"{option}.* is True or False, not {kind}"):
        OpenTelemetryPlugin(**options)
