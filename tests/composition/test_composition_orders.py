"""Orders of the list, every pair of plugins and sampled larger sets, at clients and functions."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.composition.composition_app import order, tiny_app
from tests.composition.composition_plugins import NAMES
from tests.composition.composition_rig import Rig, as_it_was, names_of, opener

from inngest_plugins.core import Stack

pytestmark = pytest.mark.anyio

ALL = (*NAMES, "checkpoint")
RANDOM_ORDERS = 8
PLACES = ("client", "function", "both")


def orders(randomness: random.Random) -> Iterator[list[str]]:
    """Orders in which every pair stands both ways round: random ones, and each reversed."""
    for _ in range(RANDOM_ORDERS):
        names: list[str] = list(ALL)
        randomness.shuffle(names)
        yield names
        yield names[::-1]


async def test_sampled_orders_of_the_list_do_the_same(rig: Rig) -> None:
    """The list's order changes neither the result nor which hooks fire how often."""
    results: list[Any] = []
    fired: list[collections.Counter[tuple[str, str]]] = []
    for names in orders(random.Random(8)):
        plugins = rig.plugins(names)
        app = tiny_app(plugins)
        # Layers decide; within a layer the list does.
        expected = names_of(sorted(plugins, key=lambda plugin: plugin.layer))
        assert names_of(Stack.of(app.client).plugins) == expected
        rig.fired.clear()
        played = await rig.play(app, order(), "fulfil")
        rig.check_order(expected)
        results.append(as_it_was(played, opener(rig.key)))
        fired.append(collections.Counter((each.plugin, each.hook) for each in rig.fired))
        if len(results) % RANDOM_ORDERS == 0:
            rig.check_no_leak(played)
    assert len(results) == 2 * RANDOM_ORDERS
    assert results.count(results[0]) == len(results)
    assert results[0]["runs"]["shop-fulfil"][0][0] == "Completed"
    assert fired.count(fired[0]) == len(fired)


def sets_of_plugins() -> list[tuple[str, ...]]:
    """No plugin, each alone, every pair, and random larger sets."""
    randomness = random.Random(18)
    larger = [tuple(randomness.sample(ALL, size)) for size in (3, 3, 4, 5, 6, 7, 8)]
    small = [names for size in range(3) for names in itertools.combinations(ALL, size)]
    return [*small, *larger]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("where", PLACES)
async def test_sets_of_plugins_change_no_result(rig: Rig, *, is_async: bool, where: str) -> None:
    """With any of the sets a run is what it is without plugins.

    Nothing leaks where the client encrypts (what a client without the plugin sends is in the
    clear). Each set is played in async and in sync functions; the places take turns.
    """
    bare = as_it_was(await rig.play(tiny_app(is_async=is_async), order(), "fulfil"), None)
    rig.records.lines.clear()
    first = PLACES.index(where) if is_async else (PLACES.index(where) + 1) % len(PLACES)
    chosen = [_placed(names, where) for names in sets_of_plugins()[first :: len(PLACES)]]
    # What is exported in the clear stays in the rig: the clear sets come last.
    for at_client, at_functions in sorted(chosen, key=lambda places: "encryption" not in places[0]):
        plugins = rig.plugins([*at_client, *at_functions])
        outer, inner = plugins[: len(at_client)], plugins[len(at_client) :]
        app = tiny_app(outer, inner, is_async=is_async)
        rig.fired.clear()
        played = await rig.play(app, order(), "fulfil")
        assert as_it_was(played, opener(rig.key)) == bare, names_of(plugins)
        # Those of the client come first within a layer.
        rig.check_order(names_of(sorted(plugins, key=lambda plugin: plugin.layer)))
        # Checkpointing has no hooks: it is another way to deliver.
        assert {each.plugin for each in rig.fired} == set(names_of(plugins)) - {"checkpoint"}
        if "encryption" in at_client:
            rig.check_no_leak(played)


def _placed(plugins: Sequence[str], where: str) -> tuple[Sequence[str], Sequence[str]]:
    """What stands at the client, and what at each of its functions."""
    if where == "client":
        return plugins, []
    if where == "function":
        return [], plugins
    return plugins[::2], plugins[1::2]
