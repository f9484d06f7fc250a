"""All five plugins and custom hooks, in everything that can happen to a run."""

from __future__ import annotations

import pytest
from tests.composition.composition_app import App, order, scans, whole_app
from tests.composition.composition_rig import Played, Rig, as_it_was, custom_hooks, names_of, opener
from tests.composition.composition_secrets import all_leaks

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


async def play(rig: Rig, app: App, mood: str) -> Played:
    """Play the scenario that a mood names."""
    if mood == "batch":
        return await rig.play(app, scans(), "batch")
    return await rig.play(app, order(mood), "fulfil")


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("mood", [*MOODS, "batch"])
async def test_a_run_is_what_it_is_without_plugins_and_nothing_leaks(
    rig: Rig, *, mood: str, is_async: bool
) -> None:
    """Whatever happens to a run, plugins change nothing of it, fire in order, and leak nothing."""
    bare_app = whole_app(is_async=is_async)
    bare = await play(rig, bare_app, mood)
    rig.records.lines.clear()
    rig.transport.envelopes.clear()

    plugins = [*rig.plugins(), *(rig.noting(hooks) for hooks in custom_hooks())]
    app = whole_app(plugins, is_async=is_async)
    played = await play(rig, app, mood)

    assert played.run.status == MOODS.get(mood, "Completed")
    assert as_it_was(played, opener(rig.key)) == as_it_was(bare, None)
    assert sorted(app.ran) == sorted(bare_app.ran)
    assert all_leaks(bare.contents()), "the search finds nothing even in the clear"
    rig.check_no_leak(played)
    rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
