"""Any stack, any request, any failure: the order law holds and everything opened is closed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import inngest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.core_protocol import BOTH, Engine, serve
from tests.core.core_spies import AsyncSpy, Spy, foreign, of

from inngest_plugins.core import Call, Layer

INBOUND = ("transform_input", "before_memoization", "before_execution", "around_step")
OUTBOUND = (
    "after_memoization",
    "~around_step",
    "after_execution",
    "transform_output",
    "before_response",
    "before_send_events",
    "after_send_events",
)
RAISING = (*INBOUND, *OUTBOUND, "transform_step_input")
FOREIGN = (
    "transform_input",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)
PAIRS = {
    "transform_input": "before_response",
    "before_memoization": "after_memoization",
    "before_execution": "after_execution",
    "around_step": "~around_step",
    "before_send_events": "after_send_events",
}
PHASES = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)


class _Opening:
    """Opens a context of the call in `transform_input`."""

    name: str
    log: list[str]

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        self.log.append(f"{self.name}.open")
        try:
            yield
        finally:
            self.log.append(f"{self.name}.close")


class OpeningSpy(_Opening, Spy):
    """A spy with a context."""

    def transform_input(self, call: Call) -> None:
        call.enter(self._context())
        super().transform_input(call)


# An async spy cannot open a sync context in a sync function: it has its hooks only.
KINDS: dict[str, Any] = {"sync": OpeningSpy, "async": AsyncSpy}

plugins = st.lists(
    st.tuples(
        st.sampled_from(sorted(KINDS)),
        st.sampled_from(list(Layer)),
        st.none() | st.booleans(),
        st.sets(st.sampled_from(RAISING), max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)
others = st.lists(
    st.tuples(st.integers(0, 5), st.sets(st.sampled_from(FOREIGN), max_size=1)), max_size=2
)
requests = st.fixed_dictionaries(
    {
        "memos": st.sets(st.sampled_from(["a", "b", "c", "gone"])),
        "target": st.none() | st.sampled_from(["a", "b", "c", "nope"]),
        "planning": st.booleans(),
        "attempt": st.integers(0, 3),
    }
)
bodies = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(["steps", "parallel", "send", "invokes", "none"]),
        "fails": st.none() | st.sampled_from(["a", "b", "function"]),
        "catches": st.booleans(),
    }
)


def make_body(shape: dict[str, Any]) -> Any:
    """A function of the given shape."""

    async def body(ctx: Any) -> str:
        def handler(step_id: str) -> Any:
            def run() -> str:
                if shape["fails"] == step_id:
                    raise ValueError("user")
                return "value"

            return run

        async def step(step_id: str) -> Any:
            try:
                return await ctx.step.run(step_id, handler(step_id))
            except Exception:
                if not shape["catches"]:
                    raise

        match shape["shape"]:
            case "steps":
                for step_id in ("a", "b", "c"):
                    await step(step_id)
            case "parallel":
                await step("c")
                await ctx.group.parallel((lambda: step("a"), lambda: step("b")))
            case "send":
                await ctx.step.send_event("a", inngest.Event(name="shop/x"))
            case "invokes":
                await ctx.group.parallel(
                    (
                        lambda: ctx.step.invoke_by_id("a", function_id="x", data={}),
                        lambda: ctx.step.invoke_by_id("b", function_id="x", data={}),
                    )
                )
            case _:
                pass
        if shape["fails"] == "function":
            raise ValueError("user")
        return "done"

    return body


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    setting=st.sampled_from(BOTH), chosen=plugins, between=others, request=requests, shape=bodies
)
def test_the_order_law_and_the_closing_law(
    setting: str, chosen: Any, between: Any, request: dict[str, Any], shape: Any
) -> None:
    """Hooks of a kind run in stack order, phases in theirs, each once, and all is closed."""
    log: list[str] = []
    spies: list[Any] = []
    for number, (kind, layer, fail_open, raising, _) in enumerate(chosen):
        raises = {hook: inngest.NonRetriableError(f"p{number} {hook}") for hook in raising}
        spies.append(
            KINDS[kind](f"p{number}", log, layer=layer, fail_open=fail_open, raises=raises)
        )
    on_client = [spy for spy, spec in zip(spies, chosen, strict=True) if not spec[4]]
    own = [spy for spy, spec in zip(spies, chosen, strict=True) if spec[4]]
    middleware: list[Any] = list(on_client)
    for number, (position, raising) in enumerate(between):
        errors = {hook: ValueError(f"f{number} {hook}") for hook in raising}
        middleware.insert(position, foreign(f"f{number}", log, raises=errors))
    app = serve(setting, make_body(shape), *middleware, own=own)
    with Engine().serving(app.client):
        reply = app.post(**{**request, "memos": {name: {"data": 1} for name in request["memos"]}})
    assert reply.status in (200, 206, 500)

    order = [spy.name for spy in sorted([*on_client, *own], key=lambda spy: spy.layer)]
    for hook in (*INBOUND, *OUTBOUND):
        ran = [entry.split(".")[0] for entry in log if entry.endswith(f".{hook}")]
        ran = [name for name in ran if name in order]
        direction = order if hook in INBOUND else order[::-1]
        assert ran == [name for name in direction if name in ran], (hook, log)
        assert len(set(ran)) == len(ran), (hook, log)

    for spy in spies:
        hooks = of(log, spy.name)
        phases = [hook for hook in hooks if hook in PHASES]
        assert phases == [hook for hook in PHASES if hook in phases], log
        for opening, closing in PAIRS.items():
            if opening == "around_step" and "around_step" in spy.raises:
                continue
            if opening in hooks:
                assert hooks.count(closing) == 1, (spy.name, closing, log)
        assert hooks.count("open") == hooks.count("close"), log
    opened = [entry[:-5] for entry in log if entry.endswith(".open")]
    closed = [entry[:-6] for entry in log if entry.endswith(".close")]
    assert closed == opened[::-1], log

    failing = [
        spy
        for spy in spies
        if not spy.fails_open() and any(f"{spy.name}.{hook}" in log for hook in spy.raises)
    ]
    swallowed = {"after_send_events", "transform_step_input", "before_send_events"}
    if any(set(spy.raises) - swallowed and _raised(spy, log, swallowed) for spy in failing):
        assert reply.status == 500 or any(op.get("error") for op in reply.ops), log


def _raised(spy: Any, log: list[str], swallowed: set[str]) -> bool:
    return any(f"{spy.name}.{hook}" in log for hook in set(spy.raises) - swallowed)
