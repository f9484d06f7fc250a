"""`LocalEngine.run_sync`, which must not run inside of a test's event loop."""

from __future__ import annotations

import inngest

from inngest_plugins.local import LocalEngine


def test_run_sync_runs_and_settles() -> None:
    """A script gets its run, and what the run caused is done too."""
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(fn_id="first", trigger=inngest.TriggerEvent(event="shop/first"))
    def first(ctx: inngest.ContextSync) -> str:
        ctx.step.send_event("next", inngest.Event(name="shop/second"))
        return "done"

    @client.create_function(fn_id="second", trigger=inngest.TriggerEvent(event="shop/second"))
    def second(ctx: inngest.ContextSync) -> str:
        return "done too"

    engine = LocalEngine(client, [first, second])
    run = engine.run_sync(inngest.Event(name="shop/first"))
    assert run.output == "done"
    assert [r.output for r in engine.runs] == ["done", "done too"]
