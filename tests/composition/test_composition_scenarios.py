"""All plugins and custom hooks, in everything that can happen to a run, checkpointing or not."""

from __future__ import annotations

import json
import random

import pytest
from tests.composition.composition_app import App, order, scans, whole_app
from tests.composition.composition_plugins import NAMES
from tests.composition.composition_rig import Played, Rig, as_it_was, custom_hooks, names_of, opener
from tests.composition.composition_secrets import all_leaks, secret
from tests.composition.composition_uses import INPUT_TOKENS

pytestmark = pytest.mark.anyio

MOODS = {
    "fine": "Completed",
    "flaky": "Completed",
    "step": "Failed",
    "caught": "Completed",
    "raise": "Failed",
    "final": "Failed",
    "child": "Failed",
}
ALL_MOODS = [*MOODS, "batch"]


async def play(rig: Rig, app: App, mood: str) -> Played:
    """Play the scenario that a mood names."""
    if mood == "batch":
        return await rig.play(app, scans(), "batch")
    return await rig.play(app, order(mood), "fulfil")


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("mood", ALL_MOODS)
async def test_a_run_is_what_it_is_without_plugins_and_nothing_leaks(
    rig: Rig, *, mood: str, is_async: bool
) -> None:
    """Whatever happens to a run, plugins change nothing of it, fire in order, and leak nothing.

    Each mood is played with checkpointing once, and so are async and sync functions.
    """
    bare_app = whole_app(is_async=is_async)
    bare = await play(rig, bare_app, mood)
    assert all_leaks(bare.contents()), "the search finds nothing even in the clear"
    rig.records.lines.clear()
    rig.transport.envelopes.clear()

    checkpoints = ALL_MOODS.index(mood) % 2 == is_async
    names = (*NAMES, "checkpoint") if checkpoints else NAMES
    plugins = [*rig.plugins(names), *(rig.noting(hooks) for hooks in custom_hooks())]
    random.Random(f"{mood} {is_async}").shuffle(plugins)
    app = whole_app(plugins, is_async=is_async)
    played = await play(rig, app, mood)

    assert played.run.status == MOODS.get(mood, "Completed")
    assert as_it_was(played, opener(rig.key)) == as_it_was(bare, None), names_of(plugins)
    assert sorted(app.ran) == sorted(bare_app.ran)
    rig.check_no_leak(played)
    rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
    assert checkpoints == (len(played.run.requests) < len(bare.run.requests))
    if mood != "batch":
        check_what_plugins_recorded(rig, app, played)


def check_what_plugins_recorded(rig: Rig, app: App, played: Played) -> None:
    """Each plugin did its work once, however often the function was replayed."""
    run = played.run
    mirrored = rig.mirrored()
    assert {each.id: mirrored.get(each.id) for each in played.runs} == {
        each.id: each.status for each in played.runs
    }
    judged = [each for each in played.runs if each.is_deferred]
    assert [each.status for each in judged] == ["Completed"]
    assert opener(rig.key)(judged[0].output) == secret("deferred")
    steps = [name for name in app.ran if name in ("first", "left", "right")]
    used = run.metadata["run"]["userland.ai"]
    assert used["input_tokens"] == INPUT_TOKENS * len(steps)
    assert rig.opened > len(steps)
    told = [body for address, body in played.api if "/realtime/publish" in address]
    for name in steps:
        assert told.count(json.dumps(name).encode()) == 1, name
