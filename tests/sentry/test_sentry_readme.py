"""The plugin's README is true."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import TYPE_CHECKING

import inngest
import pytest
import sentry_sdk

from inngest_plugins.local import LocalEngine
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import Sentry

README = (Path(__file__).parents[2] / "plugins" / "sentry" / "README.md").read_text()


@pytest.mark.anyio
async def test_example(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example runs as it is shown, and reports what it says."""
    original = sentry_sdk.init
    monkeypatch.setenv("INNGEST_DEV", "1")
    monkeypatch.setattr(
        sentry_sdk,
        "init",
        lambda **options: original(
            **options, transport=sentry.transport, auto_enabling_integrations=False
        ),
    )
    (source,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    module = types.ModuleType("readme")
    exec(compile(source, "README.md", "exec"), module.__dict__)
    async with LocalEngine(module.client, [module.fulfil]) as engine:
        run = await engine.run(inngest.Event(name="shop/order.placed"))
    assert run.status == "Failed"
    (error,) = sentry.errors
    assert error["tags"]["inngest.step.id"] == "charge"
    assert error["tags"]["order"] == "42"


def test_options() -> None:
    """The table lists every option with its default."""
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", README, re.MULTILINE)
    parameters = inspect.signature(SentryPlugin).parameters.values()
    assert rows == [(p.name, repr(p.default).replace("'", '"')) for p in parameters]
