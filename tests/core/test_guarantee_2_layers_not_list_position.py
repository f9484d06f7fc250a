"""Guarantee 2: the stack is sorted by layer, whatever the order of the lists."""

from __future__ import annotations

import itertools
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import ASYNC_SETTINGS, BOTH, Engine, make_client, serve
from tests.core.core_spies import Spy, foreign, foreign_async, of, only

from inngest_plugins.core import Hooks, Layer, Plugin, RegistrationError, Stack


async def nothing(ctx: Any) -> None:
    """A function that does nothing."""
    return


async def one_step(ctx: Any) -> None:
    """A function of one step."""
    await ctx.step.run("a", lambda: 1)


def names(log: list[str], hook: str) -> list[str]:
    """The plugins that had this hook, in order."""
    return [entry.split(".")[0] for entry in only(log, hook)]


@pytest.mark.parametrize("setting", BOTH)
def test_every_list_order_gives_the_same_order(setting: str) -> None:
    """All 24 orders of one plugin of each layer work the same way in every hook."""
    logs: list[list[str]] = []
    for layers in itertools.permutations(Layer):
        log: list[str] = []
        spies = [Spy(layer.name.lower(), log, layer=layer) for layer in layers]
        serve(setting, one_step, *spies).post()
        logs.append(log)

    assert names(logs[0], "transform_input") == ["observe", "wire", "contract", "context"]
    assert all(log == logs[0] for log in logs)


def test_list_order_breaks_ties() -> None:
    """Plugins of one layer keep the order in which they were listed."""
    log: list[str] = []
    for order in itertools.permutations(["a", "b", "c"]):
        log.clear()
        spies = [Spy(name, log, layer=Layer.WIRE) for name in order]
        serve("fastapi-async", nothing, Spy("z", log), *spies).post()

        assert names(log, "transform_input") == [*order, "z"]
        assert names(log, "before_response") == ["z", *reversed(order)]


def test_a_stack_is_sorted_and_merged() -> None:
    """A `Stack` in the list, alone or among plugins or in another `Stack`, is one with them."""
    log: list[str] = []
    spies = {layer: Spy(layer.name.lower(), log, layer=layer) for layer in Layer}
    inner = Stack(spies[Layer.CONTEXT], spies[Layer.OBSERVE])
    for middleware in (
        [Stack(*(spies[layer] for layer in reversed(Layer)))],
        [spies[Layer.CONTRACT], inner, spies[Layer.WIRE]],
        [Stack(spies[Layer.CONTRACT], inner), Stack(spies[Layer.WIRE])],
    ):
        log.clear()
        serve("fastapi-async", nothing, *middleware).post()

        assert names(log, "transform_input") == ["observe", "wire", "contract", "context"]


@pytest.mark.parametrize("setting", BOTH)
def test_client_and_function_lists_make_one_stack(setting: str) -> None:
    """A function's plugins are sorted in among the client's, behind them where layers tie."""
    log: list[str] = []
    app = serve(
        setting,
        one_step,
        Spy("context", log),
        Spy("wire", log, layer=Layer.WIRE),
        own=[
            Spy("own-context", log),
            Spy("own-observe", log, layer=Layer.OBSERVE),
            Spy("own-wire", log, layer=Layer.WIRE),
        ],
    )
    app.post()

    order = ["own-observe", "wire", "own-wire", "context", "own-context"]
    assert names(log, "transform_input") == order
    assert names(log, "around_step") == order
    assert names(log, "before_response") == order[::-1]
    assert [entry.name for entry in Stack.of(app.client, app.function).plugins] == order


@pytest.mark.parametrize("setting", BOTH)
def test_plugins_of_the_function_alone_work(setting: str) -> None:
    """With no plugin on the client, those of the function run, and only for that function."""
    log: list[str] = []
    client = make_client()
    spies = [Spy("b", log), Spy("a", log, layer=Layer.OBSERVE)]
    app = serve(setting, one_step, client=client, own=spies)
    other = serve(setting, one_step, client=client, fn_id="other")

    app.post()
    assert names(log, "transform_input") == ["a", "b"]
    assert of(log, "a") == of(log, "b")
    log.clear()
    other.post()
    assert log == []


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("setting", ASYNC_SETTINGS)
def test_ordinary_middleware_mixes_at_every_position(setting: str, kind: str) -> None:
    """Wherever ordinary middleware stands, the plugins are one stack in the first one's place."""
    for position in range(4):
        log: list[str] = []
        plugins: list[Any] = [
            Spy("p3", log),
            Spy("p1", log, layer=Layer.OBSERVE),
            Spy("p2", log, layer=Layer.CONTRACT),
        ]
        entry = foreign("f", log) if kind == "sync" else foreign_async("f", log)
        serve(setting, one_step, *plugins[:position], entry, *plugins[position:]).post()

        expected = ["p1", "p2", "p3"]
        order = ["f", *expected] if position == 0 else [*expected, "f"]
        assert names(log, "transform_input") == order, position
        assert names(log, "before_execution") == order, position
        assert names(log, "after_execution") == order[::-1], position
        assert names(log, "transform_output") == order[::-1], position
        assert sorted(names(log, "before_response")) == sorted(order), position


def test_ordinary_sync_middleware_mixes_in_sync_functions() -> None:
    """The same holds for sync functions, for which the SDK takes `MiddlewareSync` only."""
    for position in range(3):
        log: list[str] = []
        plugins: list[Any] = [Spy("p2", log), Spy("p1", log, layer=Layer.OBSERVE)]
        serve(
            "fastapi-pool", one_step, *plugins[:position], foreign("f", log), *plugins[position:]
        ).post()

        order = ["f", "p1", "p2"] if position == 0 else ["p1", "p2", "f"]
        assert names(log, "transform_input") == order, position
        assert names(log, "transform_output") == order[::-1], position


def test_ordinary_middleware_of_the_function_lies_within_the_clients_stack() -> None:
    """A function's ordinary middleware runs inside of the client's plugins, as the SDK puts it."""
    log: list[str] = []
    serve("fastapi-async", nothing, Spy("p", log), own=[foreign("f", log), Spy("q", log)]).post()

    assert names(log, "transform_input") == ["p", "q", "f"]
    assert names(log, "transform_output") == ["f", "q", "p"]


TWICE = r"'twice' \(Spy\) is registered twice"


@pytest.mark.parametrize(
    "place", ["client list", "function list", "both lists", "list and stack", "two stacks"]
)
@pytest.mark.parametrize("setting", BOTH)
def test_the_same_object_twice_is_an_error_that_names_it(setting: str, place: str) -> None:
    """One object that is registered twice fails the run by its name, and nothing runs."""
    log: list[str] = []
    spy = Spy("twice", log)
    places: dict[str, tuple[list[Any], list[Any]]] = {
        "client list": ([spy, spy], []),
        "function list": ([], [spy, spy]),
        "both lists": ([spy], [spy]),
        "list and stack": ([spy, Stack(spy)], []),
        "two stacks": ([Stack(spy), Stack(spy)], []),
    }
    client, own = places[place]
    app = serve(setting, nothing, *client, own=own)
    reply = app.post()

    assert (reply.status, reply.body["name"]) == (500, "RegistrationError")
    assert "'twice'" in reply.body["message"]
    assert log == []
    with pytest.raises(RegistrationError, match=TWICE):
        Stack.of(app.client, app.function)


def test_the_same_object_twice_in_a_stack_is_refused_where_it_is_built() -> None:
    """An explicit `Stack` shows the mistake at once."""
    spy = Spy("twice", [])
    with pytest.raises(RegistrationError, match=TWICE):
        Stack(spy, spy)
    with pytest.raises(RegistrationError, match=TWICE):
        Stack(spy, Stack(spy))


def test_sending_with_a_faulty_registration_raises_it() -> None:
    """`client.send` does not send past plugins that cannot work together."""
    log: list[str] = []
    spy = Spy("twice", log)
    client = make_client(spy, spy)
    with Engine().serving(client) as engine, pytest.raises(RegistrationError, match="'twice'"):
        client.send_sync(inngest.Event(name="shop/x"))

    assert engine.requests == []
    assert log == []


def test_two_objects_of_one_class_are_fine() -> None:
    """Two differently configured plugins of one class both take part."""
    log: list[str] = []
    serve("fastapi-async", nothing, Spy("one", log), Spy("two", log)).post()

    assert of(log, "one") == of(log, "two") != []


def test_one_object_serves_several_clients() -> None:
    """The same plugin object may stand in the lists of several clients."""
    log: list[str] = []
    spy = Spy("", log)
    apps = [
        serve("fastapi-async", nothing, spy, client=make_client(spy, app_id=app_id))
        for app_id in ("one", "two")
    ]
    for app in [*apps, *apps]:
        log.clear()
        assert app.post().status == 200
        assert only(log, "transform_input") == ["transform_input"]


def test_a_changed_list_is_composed_anew() -> None:
    """Entries added to, put before or taken from a client's list take effect with the next call."""
    log: list[str] = []
    first, second, third = Spy("first", log), Spy("second", log), Spy("third", log)
    app = serve("fastapi-async", nothing, first)
    app.post()
    app.client.add_middleware(second)
    app.client.middleware.insert(0, third)
    log.clear()
    app.post()
    assert names(log, "transform_input") == ["third", "first", "second"]
    app.client.middleware.remove(third)
    log.clear()
    app.post()
    assert names(log, "transform_input") == ["first", "second"]
    app.client.middleware.remove(first)
    with Engine().serving(app.client):
        log.clear()
        app.client.send_sync(inngest.Event(name="shop/x"))
    assert names(log, "before_send_events") == ["second"]


def test_a_stack_refuses_what_is_no_plugin() -> None:
    """Ordinary middleware, and a class in place of an object, are refused with advice."""
    with pytest.raises(RegistrationError, match="goes beside it in middleware"):
        Stack(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(RegistrationError, match="make an object of the class, with parentheses"):
        Stack(Spy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_stack_shows_what_it_holds() -> None:
    """`Stack` is a sequence of its plugins, and knows the trait of secret payloads."""

    class Secret(Plugin):
        layer = Layer.WIRE
        secret_payloads = True

    hooks = Hooks("audit")
    secret = Secret()
    stack = Stack(hooks, secret)

    assert list(stack) == [secret, hooks]
    assert len(stack) == 2
    assert repr(stack) == "Stack(secret, audit)"
    assert repr(hooks) == "<Hooks 'audit'>"
    assert stack.secret_payloads
    assert not Stack(hooks).secret_payloads
    assert list(hooks.diagnose(stack)) == []
