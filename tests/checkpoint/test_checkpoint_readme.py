"""What the README shows is run."""

from __future__ import annotations

import types

import inngest
import pytest
from tests.readme import examples_of

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio


async def test_the_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is a run of two steps in one request; the second builds the plugin it names."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    module = types.ModuleType("checkpoint_readme")
    for source in examples_of("checkpoint"):
        exec(compile(source, "README", "exec", dont_inherit=True), module.__dict__)
    async with LocalEngine(module.client, [module.fulfil]) as engine:
        run = await engine.run(inngest.Event(name="shop/order.placed", data={"order": "o-1"}))
    assert run.output == ["o-1: reserved", "o-1: charged"]
    assert len(run.requests) == 1
    assert isinstance(module.many_small_steps, CheckpointPlugin)
