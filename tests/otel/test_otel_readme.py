"""The README's examples, options, metrics and attributes are those of the code."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from inngest_plugins.otel import CARRIER_KEY, OpenTelemetryPlugin
from inngest_plugins.otel.requests.instruments import Instruments

README = (Path(__file__).parents[2] / "plugins" / "otel" / "README.md").read_text()


def test_the_examples_run() -> None:
    """The python blocks, one after the other, are a program that runs and warns of nothing."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    if find_spec("logfire") is None:
        blocks = [block for block in blocks if "import logfire" not in block]
    program = "\n".join(blocks)
    assert "make_replay_safe(trace.get_tracer_provider())" in program

    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_option_is_documented_with_its_default() -> None:
    """The table of options is the constructor's signature."""
    section = README.split("## Options")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    parameters = inspect.signature(OpenTelemetryPlugin).parameters

    assert rows.keys() == parameters.keys()
    for name, parameter in parameters.items():
        if not name.endswith("_provider"):
            assert rows[name] == f"`{parameter.default}`"


def test_every_metric_is_documented_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of metrics is what the plugin creates."""
    documented = dict(re.findall(r"^\| `(inngest\.[\w.]+)` \| (\S+) \|", README, re.MULTILINE))
    provider = MeterProvider(shutdown_on_exit=False)
    instruments = vars(Instruments(provider, "scope", "1")).values()

    assert documented == {made.name: made.unit for made in instruments}


def test_the_carriers_key_is_documented() -> None:
    """Consumers without the plugin can look up what the extra key is."""
    assert f"`{CARRIER_KEY}`" in README
