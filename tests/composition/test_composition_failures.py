"""A custom plugin that raises in each hook, and cancelled requests, among all the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import anyio
import inngest
import pytest
from tests.composition.composition_app import EVENT, App, order, small_app
from tests.composition.composition_plugins import NAMES
from tests.composition.composition_rig import Fired, Rig, as_it_was, names_of, opener
from tests.composition.composition_secrets import secret
from tests.composition.composition_uses import use_in_body

from inngest_plugins.core import Call, Hooks, Layer, StackEntry, Step
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio

HOOKS = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "around_step",
    "transform_step_input",
    "after_execution",
    "transform_output",
    "before_response",
    "before_send_events",
    "after_send_events",
)
CHECKPOINTING = (*NAMES, "checkpoint")
CLOSED_BY = {"before_memoization": "after_memoization", "before_execution": "after_execution"}


class BrokenError(inngest.NonRetriableError):
    """What the custom plugin raises."""


def breaking(hook: str, layer: Layer, *, fail_open: bool) -> Hooks:
    """Custom hooks of which one raises, with a payload in its text."""
    hooks = Hooks("breaking", layer=layer, fail_open=fail_open)
    message = f"broken {secret('plugin-error')}"

    def one(subject: object) -> None:
        if hook != "before_send_events" or getattr(subject, "call", None) is not None:
            raise BrokenError(message)

    def two(call: object, subject: object) -> None:
        raise BrokenError(message)

    @contextlib.contextmanager
    def around(call: Call, step: Step) -> Iterator[None]:
        raise BrokenError(message)
        yield

    if hook == "around_step":
        hooks.around_step(around)
    else:
        getattr(hooks, hook)(two if hook in ("transform_output", "transform_step_input") else one)
    return hooks


def check_all_closed(fired: list[Fired], stack: list[StackEntry]) -> None:
    """For each request: whatever a plugin's hook opened, its closing hook closed."""
    has = {plugin.name: set(plugin.hook_functions()) for plugin in stack}
    calls: dict[int, dict[str, list[str]]] = {}
    for each in fired:
        if isinstance(each.subject, Call):
            names = calls.setdefault(id(each.subject), {}).setdefault(each.plugin, [])
            names.append(each.hook)
    for by_plugin in calls.values():
        for plugin, hooks in by_plugin.items():
            for opening, closing in CLOSED_BY.items():
                if opening in hooks and closing in has[plugin]:
                    assert closing in hooks, (plugin, hooks)
            if "transform_input" in hooks and "before_response" in has[plugin]:
                assert "before_response" in hooks, (plugin, hooks)


def cases(*layers: Layer) -> list[tuple[str, Layer, bool]]:
    """Each hook in each layer, and each hook in async and in sync functions."""
    pairs = [(hook, layer) for hook in HOOKS for layer in layers]
    return [
        (hook, layer, (HOOKS.index(hook) + layers.index(layer)) % 2 == 0) for hook, layer in pairs
    ]


def names_in(layer: Layer) -> tuple[str, ...]:
    """The other plugins: with checkpointing where the broken one is innermost."""
    return CHECKPOINTING if layer is Layer.CONTEXT else NAMES


def case_id(value: object) -> str:
    """How a test names its case."""
    if isinstance(value, Layer):
        return value.name
    return value if isinstance(value, str) else ("async" if value else "sync")


@pytest.mark.parametrize(
    ("hook", "layer", "is_async"), cases(Layer.OBSERVE, Layer.CONTEXT), ids=case_id
)
async def test_a_plugin_that_fails_open_changes_nothing(
    rig: Rig, *, hook: str, layer: Layer, is_async: bool
) -> None:
    """A plugin that fails open can raise anywhere: the log names it, and the run goes on."""
    bare = as_it_was(await rig.play(small_app(is_async=is_async), order(), "fulfil"), None)
    _forget(rig)
    plugins = [*rig.plugins(names_in(layer)), rig.noting(breaking(hook, layer, fail_open=True))]
    played = await rig.play(small_app(plugins, is_async=is_async), order(), "fulfil")

    assert as_it_was(played, opener(rig.key)) == bare
    assert any("breaking" in line and hook in line for line in rig.records.lines)
    assert any(fired.plugin == "breaking" for fired in rig.fired)
    check_all_closed(rig.fired, plugins)
    rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
    rig.check_no_leak(played)


@pytest.mark.parametrize(
    ("hook", "layer", "is_async"), cases(Layer.WIRE, Layer.CONTEXT), ids=case_id
)
async def test_a_plugin_that_fails_closed_fails_the_run(
    rig: Rig, *, hook: str, layer: Layer, is_async: bool
) -> None:
    """A plugin that fails closed fails the run with its error, reported once, without leaks."""
    plugins = [*rig.plugins(names_in(layer)), rig.noting(breaking(hook, layer, fail_open=False))]
    played = await rig.play(small_app(plugins, is_async=is_async), order(), "fulfil")

    # The events are out by then; failing would send them twice.
    if hook == "after_send_events":
        assert played.run.status == "Completed"
    else:
        assert played.run.status == "Failed"
        assert (played.run.error or {}).get("name") == "BrokenError"
        reported = [
            (event["tags"]["inngest.run.id"], event["exception"]["values"][-1]["type"])
            for event in rig.transport.errors
            if event["level"] == "error"
        ]
        # What the run deferred before it failed fails as well, as a run of its own.
        failed = [run.id for run in played.runs if run.status == "Failed"]
        assert sorted(reported) == sorted((run_id, "BrokenError") for run_id in failed)
    check_all_closed(rig.fired, plugins)
    rig.check_no_leak(played)


def _forget(rig: Rig) -> None:
    rig.records.lines.clear()
    rig.transport.envelopes.clear()
    rig.fired.clear()


@pytest.mark.parametrize("names", [NAMES, CHECKPOINTING], ids=["answer", "checkpoint"])
async def test_a_cancelled_request_closes_everything_and_the_run_goes_on(
    rig: Rig, names: tuple[str, ...]
) -> None:
    """A request that is cancelled while a step waits leaves nothing open and loses nothing."""
    plugins = [
        *rig.plugins(names),
        rig.noting(breaking("on_register", Layer.OBSERVE, fail_open=True)),
    ]
    app = App(plugins)
    tries: list[None] = []

    async def stuck() -> str:
        tries.append(None)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return secret("step")

    async def main(ctx: Any, step: Any) -> Any:
        first = await step.run("first", app.noting("first", secret("first")))
        return [first, await step.run("stuck", stuck)]

    app.function(main, "fulfil", EVENT, retries=1)
    played = await rig.play(app, order(), "fulfil", request_timeout=5)

    assert played.run.status == "Completed"
    assert opener(rig.key)(played.run.output) == [secret("first"), secret("step")]
    cancelled = [
        fired.subject
        for fired in rig.fired
        if isinstance(fired.subject, Call) and fired.subject.cancelled
    ]
    assert len({id(call) for call in cancelled}) == 1
    hooks = [fired.hook for fired in rig.fired if fired.subject is cancelled[0]]
    # With checkpointing the step before was stored in the same request.
    assert ("transform_output" in hooks) == (names is CHECKPOINTING)
    check_all_closed(rig.fired, plugins)
    rig.check_no_leak(played)
    assert Call.current() is None
    spans = rig.spans.get_finished_spans()
    assert len({span.context.span_id for span in spans if span.context is not None}) == len(spans)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_run_cancelled_at_the_engine_ends_without_a_report(
    rig: Rig, *, is_async: bool
) -> None:
    """Cancelling a run that waits ends it; nothing is reported to Sentry, and nothing leaks."""
    plugins = rig.plugins(CHECKPOINTING if is_async else NAMES)
    app = App(plugins, is_async=is_async)

    async def main(ctx: Any, step: Any) -> Any:
        use_in_body(app.judge, "o-1")
        await step.run("first", app.noting("first", secret("first")))
        return await step.wait_for_event("wait", event="shop/never", timeout=1000)

    app.function(main, "fulfil", EVENT, retries=0)

    async def cancel(engine: LocalEngine) -> None:
        with anyio.fail_after(100):
            while not any("wait" in run.steps for run in engine.runs):
                await engine.idle()
        await engine.cancel(engine.runs[0])

    played = await rig.play(app, order(), "fulfil", during=cancel)
    assert played.run.status == "Cancelled"
    # What was deferred runs however the run ended.
    judged = [run.status for run in played.runs if run.is_deferred]
    assert judged == ["Completed"]
    assert rig.transport.errors == []
    check_all_closed(rig.fired, plugins)
    rig.check_no_leak(played)
