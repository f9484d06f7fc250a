"""The README's examples, run."""

from __future__ import annotations

from typing import Any

import inngest
import pytest
from tests.readme import modules_of

from inngest_plugins.local import LocalEngine
from inngest_plugins.metadata import MetadataPlugin

pytestmark = pytest.mark.anyio


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each Python block of the README, executed as a module of its own."""
    return modules_of("metadata", monkeypatch)


async def test_the_readme_s_examples_work(modules: list[dict[str, Any]]) -> None:
    """The first example gives what it says, and the others do on the embedded engine."""
    first = modules[0]
    async with LocalEngine(first["client"], [first["import_files"]]) as engine:
        run = await engine.run(inngest.Event(name="import/requested"))
        assert run.output == 1200
        review = next(module["review"] for module in modules if "review" in module)
        await review(first["client"], run.id)
        assert run.metadata["run"]["userland.default"] == {
            "state": "done",
            "files": 3,
            "reviewed": True,
            "reviews": 1,
        }
        assert run.metadata["import"]["userland.default"] == {"note": "checked"}

    client = inngest.Inngest(app_id="app", middleware=[MetadataPlugin()])
    work = next(module["work"] for module in modules if "work" in module)
    answer = next(module["answer"] for module in modules if "answer" in module)
    import_row = next(module["import_row"] for module in modules if "import_row" in module)

    async def tokens() -> Any:
        for token in ("all ", "is ", "well"):
            yield token

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="child"), retries=0)
    async def child(ctx: inngest.Context) -> None:
        await import_row(None)

    @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="go"), retries=0)
    async def parent(ctx: inngest.Context) -> Any:
        work()
        await ctx.step.invoke("row", function=child)
        return await answer(tokens())

    async with LocalEngine(client, [parent, child]) as engine:
        run = await engine.run(inngest.Event(name="go"), function="parent")
    assert run.output == "all is well"
    assert run.metadata["run"]["userland.default"] == {"done": 1, "total": 10, "rows": 1}
