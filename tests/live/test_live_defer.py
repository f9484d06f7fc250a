"""Deferred functions on a real server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from pydantic import BaseModel

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.defer import DeferPlugin, defer, deferred_function
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer


class Verdict(BaseModel):
    text: str


@pytest.mark.parametrize("ending", ["returns", "fails"])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_live_defer(live_server: LiveServer, ending: str, checkpoints: bool) -> None:
    """Sealed, from the body and from a step, aborted and kept; once each, after the run."""
    app_id = f"live-defer-{ending}-{checkpoints}".lower()
    plugins: list[Any] = [DeferPlugin(), EncryptionPlugin(KeyRing(Key("k", bytes(32))))]
    if checkpoints:
        plugins.append(CheckpointPlugin())
    client = live_server.client(app_id, middleware=plugins)
    judge = deferred_function(client, fn_id="judge", schema=Verdict, retries=0)
    judged: list[str] = []

    @judge
    async def judge_it(ctx: inngest.Context, verdict: Verdict) -> str:
        judged.append(verdict.text)
        return verdict.text

    async def in_step() -> str:
        defer("step", judge, Verdict(text="from a step"))
        return "done"

    @client.create_function(
        fn_id="reply", trigger=inngest.TriggerEvent(event=f"{app_id}/go"), retries=0
    )
    async def reply(ctx: inngest.Context) -> str:
        late = defer("late", judge, Verdict(text="taken back"))
        await ctx.step.run("one", in_step)
        late.abort()
        defer("body", judge, Verdict(text="from the body"))
        assert judged == []
        if ending == "fails":
            raise ValueError("after the defer")
        return "done"

    live_server.serve(client, [reply, judge_it])
    run_id = live_server.start(client, inngest.Event(name=f"{app_id}/go"))
    assert live_server.ended(run_id)["status"] == ("FAILED" if ending == "fails" else "COMPLETED")
    deadline = time.monotonic() + 30
    while len(judged) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(judged) == ["from a step", "from the body"]
