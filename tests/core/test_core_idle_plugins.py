"""A call in which no plugin has a hook: user code finds it as it finds any other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import SETTINGS, serve

from inngest_plugins.core import Call, CallEndedError, Plugin


class Idle(Plugin):
    """Overrides no hook."""


class Acting(Plugin):
    """Overrides one, so that the call takes the usual course."""

    def transform_input(self, call: Call) -> None: ...


MEMO = {"a": {"data": 1}}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("ending", "posted"),
    [
        ("return", {"memos": MEMO}),
        ("raise", {"memos": MEMO}),
        ("step", {"memos": MEMO}),
        ("step raises", {"memos": MEMO}),
        ("step", {"memos": MEMO, "planning": True}),
        ("step", {"memos": MEMO, "target": "other"}),
        ("wait", {"memos": MEMO}),
        ("return", {}),
    ],
)
def test_a_call_without_hooks_is_as_any_other(
    setting: str, ending: str, posted: dict[str, Any]
) -> None:
    """What it says of itself, what it closes, its end and the answer are the same."""

    def run(plugin: Plugin) -> Any:
        seen: list[Any] = []
        calls: list[Call] = []

        @contextlib.contextmanager
        def opened(name: str) -> Iterator[None]:
            seen.append(f"open {name}")
            try:
                yield
            except BaseException as err:
                seen.append(f"{name} ends with {type(err).__name__}")
                raise
            finally:
                seen.append(f"close {name}")

        async def body(ctx: Any) -> str:
            call = Call.current()
            assert call is not None
            calls.append(call)
            seen.append(call.phase.name)
            call.enter(opened("outer"))
            call.enter(opened("inner"))
            await ctx.step.run("a", lambda: 1)
            seen.append((call.phase.name, len(call.consumed), call.op_of(call.consumed[0])))

            def work() -> str:
                seen.append((call.phase.name, call.step and call.step.id))
                if ending == "step raises":
                    raise ValueError("no")
                return "done"

            if ending.startswith("step"):
                await ctx.step.run("b", work)
            if ending == "wait":
                await ctx.step.wait_for_event("b", event="go", timeout=1000)
            if ending == "raise":
                raise inngest.NonRetriableError("no")
            return "end"

        reply = serve(setting, body, plugin).post(run_id="run-1", **posted)
        (call,) = calls
        with pytest.raises(CallEndedError):
            call.enter(contextlib.nullcontext())
        said = reply.body if "rais" not in ending else None
        return seen, call.phase, call.cancelled, call.failure, reply.status, reply.no_retry, said

    assert run(Idle()) == run(Acting())


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_call_without_hooks_and_without_contexts_ends(setting: str) -> None:
    """It is over once the request is, and a value of the shape of a joined result comes back."""
    calls: list[Call | None] = []
    shaped = {"__inngest_plugins__": 1, "value": 1, "attachments": {}}

    async def body(ctx: Any) -> Any:
        calls.append(Call.current())
        return await ctx.step.run("a", lambda: shaped)

    app = serve(setting, body, Idle())
    op = app.post().op
    assert app.post(memos={"a": {"data": op["data"]}}).body == {**shaped, "value": shaped}
    for call in calls:
        assert call is not None
        with pytest.raises(CallEndedError):
            call.enter(contextlib.nullcontext())
