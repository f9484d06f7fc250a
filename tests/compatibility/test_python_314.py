"""What Python 3.14 changes, as far as older Pythons can show it.

Annotations are evaluated when somebody asks for them, and may then name what exists for type
checkers only; processes are started without a fork of this one. Free threading stays an option that
nothing here asks for.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.core import Call, Hooks, Layer, Plugin
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

if TYPE_CHECKING:
    from somewhere_else import OnlyForTypeCheckers  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

SEEN: list[str] = []


class Annotated(Plugin):
    """Its annotations cannot be evaluated."""

    layer = Layer.OBSERVE

    def before_execution(self, call: Call, note: OnlyForTypeCheckers = None) -> None:
        SEEN.append("plugin")


audit = Hooks("audit")


@audit.before_response
def _audit(call: Call, note: OnlyForTypeCheckers = None) -> None:  # pyright: ignore[reportUnusedFunction]
    SEEN.append("hooks")


def make_app() -> tuple[inngest.Inngest, inngest.Function[Any]]:
    """Make a client with plugins, and a function whose annotations cannot be evaluated."""
    client = inngest.Inngest(
        app_id="later",
        is_production=False,
        middleware=[
            Annotated(),
            audit,
            SentryPlugin(),
            OpenTelemetryPlugin(),
            EncryptionPlugin(KeyRing(Key("k1", b"k" * 32))),
            ValidationPlugin(outputs={"later-work": {"type": "integer"}}),
            MetadataPlugin(),
        ],
    )

    async def step() -> OnlyForTypeCheckers:
        metadata.set("seen", 1)
        return 20

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="later/go"))
    async def work(ctx: inngest.Context) -> OnlyForTypeCheckers:
        return await ctx.step.run("step", step) + 1

    return client, work


def run_once() -> int:
    """Run the function on an engine of this process, and return what it returned."""
    client, work = make_app()
    engine = LocalEngine(client, [work])
    run = engine.run_sync(inngest.Event(name="later/go"))
    assert run.status == "Completed"
    result: int = run.result
    return result


def test_annotations_that_cannot_be_evaluated() -> None:
    """No plugin asks for the annotations of a user's functions, hooks or steps."""
    SEEN.clear()
    assert run_once() == 21
    assert {"plugin", "hooks"} <= set(SEEN)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_is_no_fork(method: str) -> None:
    """An app runs in a process that inherits nothing of this one."""
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(run_once).result(timeout=120) == 21
