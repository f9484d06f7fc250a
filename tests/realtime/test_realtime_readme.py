"""The README's example, run: a worker follows a run, a browser gets its token."""

from __future__ import annotations

import inngest
import pytest
from tests.readme import modules_of

from inngest_plugins.local import LocalEngine, RealClock

pytestmark = pytest.mark.anyio


async def test_the_readme_s_example_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The messages of a run come to the worker, which ends with the run."""
    (readme,) = modules_of("realtime", monkeypatch)
    client: inngest.Inngest = readme["client"]

    @client.create_function(fn_id="first", trigger=inngest.TriggerEvent(event="first"))
    async def first(ctx: inngest.Context) -> None:
        """Follows the other function from within a step."""

        async def step() -> None:
            ids = await engine.send(
                inngest.Event(name="shop/order.placed", data={"order_id": "o1"})
            )
            run = next(run for run in engine.runs if run.events[0]["id"] == ids[0])
            await readme["follow"]("o1", run.id)

        await ctx.step.run("follow", step)

    async with LocalEngine(client, [readme["fulfil"], first], clock=RealClock()) as engine:
        run = await engine.run(inngest.Event(name="first"), timeout=200)
        assert run.status == "Completed", run.error
        assert capsys.readouterr().out == "1\n2\n3\n"
        token = await readme["token_for_a_browser"]("o1")
    assert (token["channel"], token["topics"]) == ("order:o1", ["progress"])
