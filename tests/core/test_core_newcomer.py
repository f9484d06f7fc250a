"""Mistakes of the first hour: each error says what to write."""

from __future__ import annotations

import inspect
from typing import Any

import inngest
import pytest

from inngest_plugins.core import (
    Call,
    CallKey,
    HookDefinitionError,
    Hooks,
    Plugin,
    RegistrationError,
    Stack,
)
from inngest_plugins.local import LocalEngine


class Bell(Plugin):
    def before_execution(self, call: Call) -> None:
        call.logger.info("ding")


class Tuned(Plugin):
    def __init__(self, note: str, octave: int = 4) -> None:
        self.note = note
        self.octave = octave


def dev_client(*middleware: Any) -> inngest.Inngest:
    return inngest.Inngest(app_id="newcomer", is_production=False, middleware=list(middleware))


@pytest.mark.parametrize("listed", [Bell, Tuned, Hooks, Stack])
def test_a_class_in_the_list_is_told_from_an_object(listed: Any) -> None:
    """The SDK calls what is listed with the client and the request, as it would a middleware."""
    with pytest.raises(RegistrationError, match=f"{listed.__name__} stands .* as a class"):
        listed(dev_client(listed), None)


@pytest.mark.parametrize("listed", [Bell, Hooks])
def test_a_class_in_a_function_s_list_is_told_too(listed: Any) -> None:
    """The client does not know that list: what could not be made of two arguments is refused."""
    with pytest.raises(RegistrationError, match="as a class"):
        listed(dev_client(), None)


def test_a_plugin_may_take_a_client() -> None:
    """What is no call of the SDK's is left alone."""

    class Sends(Plugin):
        def __init__(self, client: inngest.Inngest, topic: str) -> None:
            self.client, self.topic = client, topic

    client = dev_client()
    assert Sends(client, "news").client is client


def test_arguments_that_a_plugin_does_not_take_are_refused() -> None:
    """As Python itself would refuse them."""
    bell: Any = Bell
    with pytest.raises(TypeError, match="takes no arguments"):
        bell(3)
    assert list(inspect.signature(Tuned.__init__).parameters) == ["self", "note", "octave"]


def test_a_hook_decorator_with_parentheses_is_explained() -> None:
    """`@audit.before_execution()` says to leave the parentheses out."""
    decorator: Any = Hooks("audit").before_execution
    with pytest.raises(HookDefinitionError, match="without parentheses"):
        decorator()


def test_a_key_that_was_not_set_names_the_way_out() -> None:
    """`transform_output` also fires when the hook that sets the key never ran."""
    key = CallKey[int]("bell.rung")
    said: list[str] = []

    class Reads(Plugin):
        def before_execution(self, call: Call) -> None:
            with pytest.raises(KeyError) as caught:
                call[key]
            said.append(caught.value.args[0])

    client = dev_client(Reads())

    @client.create_function(
        fn_id="greet", trigger=inngest.TriggerEvent(event="newcomer/greet"), retries=0
    )
    def greet(ctx: inngest.ContextSync) -> str:
        return "hello"

    run = LocalEngine(client, [greet]).run_sync(inngest.Event(name="newcomer/greet"))
    assert run.status == "Completed", run.reason
    assert said == [
        "bell.rung: nothing is kept under this key; use get() where it may not be set yet"
    ]


def test_the_stack_of_a_list_with_a_class_is_an_error() -> None:
    """Asking for the stack says what the first request would say."""
    with pytest.raises(RegistrationError, match=r"Bell stands .* as a class"):
        Stack.of(dev_client(Bell))
