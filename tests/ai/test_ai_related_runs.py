"""Totals at a run's parent and root: each part of a run is written once, under its own key."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import httpx2
import inngest
import openai
import pydantic
import pytest
from tests.ai.ai_provider import Provider
from tests.ai.ai_rig import App, run_values

from inngest_plugins.ai import AIPlugin, instrument, usage
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import StackEntry
from inngest_plugins.defer import DeferPlugin, defer, deferred_function
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine, Run

pytestmark = pytest.mark.anyio

RUNS = "userland.ai.runs"
BOTH: Any = ("parent", "root")
FIGURES = ("calls", "input_tokens", "output_tokens", "failed_calls")


def told(run: Run) -> dict[str, dict[str, Any]]:
    """What other runs have told a run."""
    return dict(run.metadata.get("run", {}).get(RUNS, {}))


def summed(parts: Any) -> Counter[str]:
    """The figures of some parts, added up."""
    total: Counter[str] = Counter()
    for values in parts:
        total.update({name: values[name] for name in FIGURES if name in values})
    return +total


def own(run: Run) -> Counter[str]:
    """What the engine knows of a run itself."""
    return +Counter({name: run_values(run).get(name, 0) for name in FIGURES})


def spend(tokens: int) -> int:
    usage.record(model="gpt-5", provider="openai", input_tokens=tokens, output_tokens=1)
    return tokens


async def aspend(tokens: int) -> int:
    return spend(tokens)


async def run_all(app: App, name: str = "root") -> dict[str, Run]:
    """Run a function and what it starts; returns the runs by function."""
    async with LocalEngine(app.client, app.functions, retry_interval=0.01) as engine:
        run = await engine.run(inngest.Event(name=name), function=name)
        await engine.settle()
        assert run.status == "Completed", run.reason
        return {one.function_id.removeprefix("app-"): one for one in engine.runs}


def family(*plugins: StackEntry, totals_at: Any = BOTH) -> App:
    """A root that invokes a middle that invokes a leaf; each spends, fails and is tried again."""
    app = App(*plugins, plugin=AIPlugin(totals_at=totals_at))
    attempts: Counter[str] = Counter()

    def step(name: str, tokens: int) -> Any:
        async def handler() -> int:
            spend(tokens)
            attempts[name] += 1
            if attempts[name] == 1:
                raise ValueError("after it has spent")
            return tokens

        return handler

    @app.function("leaf", retries=2)
    async def leaf(ctx: inngest.Context) -> None:
        await ctx.step.run("a", step("leaf", 1))
        usage.record(model="gpt-5", input_tokens=10, output_tokens=0)
        await ctx.step.sleep("nap", 1)
        await ctx.step.run("b", aspend, 100)

    @app.function("middle", retries=2)
    async def middle(ctx: inngest.Context) -> None:
        await ctx.step.run("a", step("middle", 1000))
        await ctx.step.invoke("leaf", function=leaf)
        await ctx.step.run("b", aspend, 10_000)

    @app.function("root", retries=2)
    async def root(ctx: inngest.Context) -> None:
        await ctx.step.run("a", step("root", 100_000))
        await ctx.step.invoke("middle", function=middle)

    return app


@pytest.mark.parametrize(
    "plugins",
    [(), (CheckpointPlugin,), (functools.partial(EncryptionPlugin, KeyRing.generate()),)],
    ids=["plain", "checkpoint", "encryption"],
)
async def test_the_parent_and_the_root_are_told_everything_once(plugins: Any) -> None:
    """Failed attempts, the body's and steps', over replays: equal to what each run has itself."""
    runs = await run_all(family(*(make() for make in plugins)))
    leaf, middle, root = runs["leaf"], runs["middle"], runs["root"]
    assert own(leaf)["input_tokens"] == 1 + 1 + 10 + 100
    assert summed(told(middle).values()) == own(leaf)
    assert summed(told(root).values()) == own(leaf) + own(middle)
    assert not told(leaf)
    assert own(root)["input_tokens"] == 200_000
    assert told(middle)[leaf.id]["function_id"] == "app-leaf"
    failed = [key for key in told(middle) if key != leaf.id]
    assert [key.partition("/")[0] for key in failed] == [leaf.id]


async def test_only_whom_the_option_names() -> None:
    """The root alone is told, and where both are the same run it is told once."""
    runs = await run_all(family(totals_at=["root"]))
    assert not told(runs["middle"])
    assert summed(told(runs["root"]).values()) == own(runs["leaf"]) + own(runs["middle"])


async def test_without_the_option_nothing_is_told_or_sent_along() -> None:
    """An invoke's data stay as they are."""
    runs = await run_all(family(totals_at=()))
    assert not any(told(run) for run in runs.values())
    assert "_inngest_plugins" not in str(runs["leaf"].requests[0].request)


async def test_a_deferred_run_tells_the_one_that_deferred_it() -> None:
    """It starts when that run has ended."""
    app = App(DeferPlugin(), plugin=AIPlugin(totals_at=BOTH))

    class Text(pydantic.BaseModel):
        tokens: int

    @deferred_function(app.client, fn_id="judge", schema=Text)
    async def judge(ctx: inngest.Context, text: Text) -> None:
        await ctx.step.run("a", aspend, text.tokens)

    app.functions.append(judge)

    @app.function("root")
    async def root(ctx: inngest.Context) -> None:
        defer("quality", judge, Text(tokens=77))

    runs = await run_all(app)
    assert summed(told(runs["root"]).values()) == own(runs["judge"])
    assert own(runs["judge"])["input_tokens"] == 77


async def test_steps_that_the_function_does_not_come_to_any_more_are_told() -> None:
    """The other members of a group that failed were paid for."""
    app = App(plugin=AIPlugin(totals_at=["parent"]))

    @app.function("leaf", retries=0)
    async def leaf(ctx: inngest.Context) -> None:
        async def broken() -> None:
            spend(1)
            raise ValueError("no")

        async def member(name: str) -> int:
            if name == "broken":
                await ctx.step.run(name, broken)
            return await ctx.step.run(name, aspend, 10)

        names = ("broken", "a", "b")
        try:
            await ctx.group.parallel(tuple(functools.partial(member, name) for name in names))
        except inngest.StepError:
            await ctx.step.run("after", aspend, 100)

    @app.function("root")
    async def root(ctx: inngest.Context) -> None:
        await ctx.step.invoke("leaf", function=leaf)

    runs = await run_all(app)
    assert own(runs["leaf"])["input_tokens"] == 121
    assert summed(told(runs["root"]).values()) == own(runs["leaf"])


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_calls_of_the_body_are_told(*, checkpoint: bool) -> None:
    """A body that calls a model itself does so in each request, and each call was paid for."""
    provider = Provider()
    http = httpx2.AsyncClient(transport=provider.transport())
    client: Any = instrument(openai.AsyncOpenAI(api_key="k", http_client=http))
    plugins = [CheckpointPlugin()] if checkpoint else []
    app = App(*plugins, plugin=AIPlugin(totals_at=["parent"]))

    async def fail() -> None:
        raise ValueError("no")

    @app.function("leaf", retries=1)
    async def leaf(ctx: inngest.Context) -> int:
        for name in ("a", "b"):
            await client.chat.completions.create(model="gpt-5", messages=[])
            await ctx.step.run(name, aspend, 1)
        try:
            await ctx.step.run("c", fail)
        except inngest.StepError:
            return usage.run_total().input_tokens
        return 0

    @app.function("root")
    async def root(ctx: inngest.Context) -> None:
        await ctx.step.invoke("leaf", function=leaf)

    runs = await run_all(app)
    leaf_run = runs["leaf"]
    assert own(leaf_run)["input_tokens"] == provider.total[1] + 2
    assert leaf_run.output == provider.total[1] + 2
    assert summed(told(runs["root"]).values()) == own(leaf_run)


@pytest.mark.parametrize(
    "link",
    [{"parent": "../../v1/events", "root": 3}, {"parent": None}, [], "x", {"root": "A" * 26}],
)
async def test_a_link_that_somebody_made_up_is_ignored(link: Any) -> None:
    """An event may come from anybody: what is no id of a run gets in no URL."""
    app = App(plugin=AIPlugin(totals_at=BOTH))

    @app.function("fn")
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("a", aspend, 1)

    run = await app.run(_inngest_plugins={"ai": link})
    assert run.status == "Completed", run.reason
    assert run_values(run)["input_tokens"] == 1
    assert not told(run)


@pytest.mark.parametrize("totals_at", ["root", ["run"], [1]])
def test_other_relatives_are_refused(totals_at: Any) -> None:
    """At construction, with what can be given."""
    with pytest.raises(ValueError, match="'parent', 'root' or both"):
        AIPlugin(totals_at=totals_at)
