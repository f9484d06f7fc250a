"""Every order of the list and every subset of the plugins, at the client and at functions."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.composition.composition_app import order, small_app, tiny_app, whole_app
from tests.composition.composition_rig import (
    NAMES,
    Fired,
    Rig,
    as_it_was,
    custom_hooks,
    names_of,
    opener,
)

from inngest_plugins.core import Stack, StackEntry

pytestmark = pytest.mark.anyio

SUBSETS = [
    subset for size in range(len(NAMES) + 1) for subset in itertools.combinations(NAMES, size)
]
BY_LAYER = ["sentry", "otel", "encryption", "validation", "metadata"]


async def test_each_of_the_120_orders_of_the_list_does_the_same(rig: Rig) -> None:
    """The list's order changes neither results nor, within a layer's freedom, a single hook."""
    traces: dict[tuple[str, ...], set[tuple[tuple[str, str], ...]]] = {}
    results: list[Any] = []
    for names in itertools.permutations(NAMES):
        plugins = rig.plugins(names)
        app = tiny_app(plugins)
        observers = tuple(name for name in names if name in ("sentry", "otel"))
        expected = [*observers, *BY_LAYER[2:]]
        assert names_of(Stack.of(app.client).plugins) == expected
        rig.fired.clear()
        played = await rig.play(app, order(), "fulfil")
        rig.check_order(expected)
        results.append(as_it_was(played, opener(rig.key)))
        traces.setdefault(observers, set()).add(tuple(_of_all_calls(rig.fired)))
        if len(results) % 24 == 0:
            rig.check_no_leak(played)
    assert results.count(results[0]) == 120
    assert results[0]["runs"]["shop-fulfil"][0][0] == "Completed"
    assert {observers: len(seen) for observers, seen in traces.items()} == {
        ("sentry", "otel"): 1,
        ("otel", "sentry"): 1,
    }


def _of_all_calls(fired: Sequence[Fired]) -> list[tuple[str, str]]:
    """What fired in order in each call and send; those themselves, which interleave, sorted."""
    groups: dict[int, list[tuple[str, str]]] = {}
    for each in fired:
        groups.setdefault(id(each.subject), []).append((each.plugin, each.hook))
    return list(itertools.chain.from_iterable(sorted(groups.values())))


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("where", ["client", "function", "both"])
async def test_every_subset_changes_no_result(rig: Rig, *, is_async: bool, where: str) -> None:
    """With any of the 32 subsets, at either place, a run is what it is without plugins."""
    make = small_app if where == "client" else tiny_app
    bare = as_it_was(await rig.play(make(is_async=is_async), order(), "fulfil"), None)
    for subset in SUBSETS:
        plugins = rig.plugins(subset)
        app = make(*_placed(plugins, where), is_async=is_async)
        rig.fired.clear()
        played = await rig.play(app, order(), "fulfil")
        assert as_it_was(played, opener(rig.key)) == bare, subset
        # Those of the client come first within a layer.
        listed = itertools.chain(*_placed(plugins, where))
        rig.check_order(names_of(sorted(listed, key=lambda plugin: plugin.layer)))
        assert {each.plugin for each in rig.fired} == set(subset)


def _placed(plugins: list[StackEntry], where: str) -> tuple[list[StackEntry], list[StackEntry]]:
    """What stands at the client, and what at each of its functions."""
    if where == "client":
        return plugins, []
    if where == "function":
        return [], plugins
    return plugins[::2], plugins[1::2]


async def test_sampled_orders_with_custom_hooks_in_every_story(rig: Rig) -> None:
    """Shuffled lists with four custom hooks tell every story alike and leak nothing."""
    randomness = random.Random(8)
    for mood in ("fine", "caught", "raise", "child"):
        is_async = randomness.random() < 0.5
        bare = as_it_was(await rig.play(whole_app(is_async=is_async), order(mood), "fulfil"), None)
        rig.records.lines.clear()
        rig.transport.envelopes.clear()
        for _ in range(3):
            plugins = [*rig.plugins(), *(rig.noting(hooks) for hooks in custom_hooks())]
            randomness.shuffle(plugins)
            app = whole_app(plugins, is_async=is_async)
            rig.fired.clear()
            played = await rig.play(app, order(mood), "fulfil")
            names = names_of(plugins)
            assert as_it_was(played, opener(rig.key)) == bare, names
            rig.check_no_leak(played)
            rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
