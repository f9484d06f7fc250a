"""Plugins in every shape a user writes: each works, or is refused by name when it is registered."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pydantic
import pytest
from tests.core.core_protocol import BOTH, serve

from inngest_plugins.core import (
    Call,
    HookDefinitionError,
    Hooks,
    Layer,
    Plugin,
    RegistrationError,
    Stack,
    Step,
)

LOG: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    """Each test starts with nothing noted."""
    LOG.clear()


def note(call: Call) -> None:
    """A hook."""
    LOG.append(call.function_name)


@dataclasses.dataclass
class Plain(Plugin):
    """With an equality, and so without a hash."""

    label: str = "plain"

    def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


@dataclasses.dataclass(frozen=True)
class Frozen(Plugin):
    """Nothing can be set on it."""

    label: str

    def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


@dataclasses.dataclass(slots=True)
class Slots(Plugin):
    """The decorator makes a new class of it."""

    label: str

    def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


@attrs.define
class Attrs(Plugin):
    """The same by attrs."""

    label: str

    def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


class Model(Plugin, pydantic.BaseModel):
    """A pydantic model."""

    label: str

    def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


class ModelFirst(pydantic.BaseModel, Plugin):
    """A pydantic model, its bases the other way round."""

    label: str

    async def before_execution(self, call: Call) -> None:
        LOG.append(self.label)


class Mixin:
    """Hooks that several plugins share."""

    def before_execution(self, call: Call) -> None:
        LOG.append("mixin")


class Mixed(Mixin, Plugin):
    """Takes its hook from a class that is no plugin."""


class Inherited(Mixed):
    """Takes it from a plugin."""


class Partial(Plugin):
    """A partial as a hook: it is called without the plugin."""

    before_execution: Any = functools.partial(lambda label, call: LOG.append(label), "partial")


class Lambda(Plugin):
    """A lambda is a method."""

    before_execution: Any = lambda self, call: LOG.append("lambda")


class Callback:
    """An object that is called."""

    async def __call__(self, call: Call) -> None:
        LOG.append("object")


class Holder(Plugin):
    """An object with `__call__` as a hook."""

    before_execution: Any = Callback()


class OnInstance(Plugin):
    """Sets its hook on the object."""

    before_execution: Any

    def __init__(self, hook: Callable[[Call], None]) -> None:
        self.before_execution = hook


@dataclasses.dataclass
class FieldHook(Plugin):
    """A dataclass whose field is a hook."""

    before_execution: Any


@dataclasses.dataclass(slots=True)
class SlotHook(Plugin):
    """The same with slots."""

    before_execution: Any


class Static(Plugin):
    """Static and class methods."""

    before_execution: Any = staticmethod(lambda call: LOG.append("static"))
    after_execution: Any = classmethod(lambda cls, call: LOG.append("class"))


def append(label: str) -> Callable[[Call], None]:
    """Make a hook."""
    return lambda call: LOG.append(label)


SHAPES: list[tuple[Callable[[], Plugin], list[str]]] = [
    (Plain, ["plain"]),
    (lambda: Frozen("frozen"), ["frozen"]),
    (lambda: Slots("slots"), ["slots"]),
    (lambda: Attrs("attrs"), ["attrs"]),
    (lambda: Model(label="model"), ["model"]),
    (lambda: ModelFirst(label="first"), ["first"]),
    (Mixed, ["mixin"]),
    (Inherited, ["mixin"]),
    (Partial, ["partial"]),
    (Lambda, ["lambda"]),
    (Holder, ["object"]),
    (lambda: OnInstance(append("instance")), ["instance"]),
    (lambda: OnInstance(functools.partial(note)), ["fn"]),
    (lambda: FieldHook(append("field")), ["field"]),
    (lambda: SlotHook(append("slot")), ["slot"]),
    (Static, ["static", "class"]),
]


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize(("make", "expected"), SHAPES)
def test_every_shape_works(setting: str, make: Callable[[], Plugin], expected: list[str]) -> None:
    """Its hooks are called, once a request, over several requests."""

    async def body(ctx: Any) -> int:
        return 1

    app = serve(setting, body, make())
    assert app.post().body == 1
    assert app.post().body == 1
    assert expected * 2 == LOG


@pytest.mark.parametrize("setting", BOTH)
def test_equal_plugins_are_two(setting: str) -> None:
    """Two dataclass objects that compare equal are two plugins."""

    async def body(ctx: Any) -> int:
        return 1

    assert Plain() == Plain()
    assert serve(setting, body, Plain(), Plain()).post().body == 1
    assert LOG == ["plain", "plain"]


@pytest.mark.parametrize("setting", BOTH)
def test_hooks_take_every_callable(setting: str) -> None:
    """`Hooks` decorates partials, lambdas and objects with `__call__`."""
    hooks = Hooks("shapes")
    hooks.before_execution(functools.partial(lambda label, call: LOG.append(label), "partial"))
    hooks.before_execution(lambda call: LOG.append("lambda"))
    hooks.before_execution(Callback())

    class Around:
        """A class of context managers."""

        def __init__(self, call: Call, step: Step) -> None:
            self.step = step

        def __enter__(self) -> None:
            LOG.append("in")

        def __exit__(self, *_: object) -> None:
            LOG.append("out")

    hooks.around_step(Around)

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: LOG.append("step"))

    serve(setting, body, hooks).post()
    assert LOG == ["partial", "lambda", "object", "in", "step", "out"]


def test_a_hook_hidden_behind_plugin_is_refused() -> None:
    """A mixin after `Plugin` would never be called."""
    with pytest.raises(HookDefinitionError, match=r"would never be called.*class Late\(Mixin, Pl"):
        type("Late", (Plugin, Mixin), {})


def test_a_wrong_hook_of_a_mixin_is_refused() -> None:
    """The signature of an inherited hook is checked where the plugin is defined."""

    class Wrong:
        def before_execution(self) -> None: ...

    with pytest.raises(HookDefinitionError, match=r"Taker\.before_execution.*wrong signature"):
        type("Taker", (Wrong, Plugin), {})


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (5, r"OnInstance\.before_execution is a hook and must be a method"),
        (lambda: None, r"OnInstance\.before_execution.*wrong signature"),
        (None, r"OnInstance\.before_execution is a hook"),
    ],
)
def test_a_wrong_hook_on_the_object_is_refused(hook: Any, message: str) -> None:
    """What is set on the object is checked when it is registered."""
    with pytest.raises(HookDefinitionError, match=message):
        Stack(OnInstance(hook))


def test_a_wrong_partial_is_refused() -> None:
    """A partial is checked as it will be called: without the plugin."""
    with pytest.raises(HookDefinitionError, match="wrong signature"):
        type("Wrong", (Plugin,), {"before_execution": functools.partial(lambda: None)})


def test_a_plugin_that_is_called_is_refused() -> None:
    """`__call__` is how the SDK takes a plugin into a request."""
    with pytest.raises(HookDefinitionError, match="defines __call__"):
        type("Called", (Plugin,), {"__call__": lambda self: None})


@pytest.mark.parametrize("name", ["", "  "])
def test_hooks_need_a_name(name: str) -> None:
    """A name of nothing would be of no use in a log."""
    with pytest.raises(HookDefinitionError, match="needs a name"):
        Hooks(name)


# ------------------------------------------------------------------ two of one class


class Reporter(Plugin):
    """Notes its label at each request."""

    layer = Layer.OBSERVE

    def __init__(self, label: str) -> None:
        self.label = label

    def before_response(self, call: Call) -> None:
        LOG.append(self.label)

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        LOG.append(f"{self.label}:{step.id}")
        yield


class SpecialReporter(Reporter):
    """Of another class, if a kin."""


class Single(Reporter):
    """One in a list is all that makes sense."""

    one_per_list = True


class OfSingle(Single):
    """As little use beside the other."""


async def one_step(ctx: Any) -> None:
    """One step."""
    await ctx.step.run("a", lambda: None)


@pytest.mark.parametrize("setting", BOTH)
def test_the_functions_plugin_replaces_the_clients(setting: str) -> None:
    """Of exactly the same class; others of the client stay."""
    clients = (Reporter("client"), SpecialReporter("special"))
    app = serve(setting, one_step, *clients, own=[Reporter("own")])
    app.post()
    assert sorted(LOG) == ["own", "own:a", "special", "special:a"]


@pytest.mark.parametrize("setting", BOTH)
def test_a_stack_of_the_function_replaces_too(setting: str) -> None:
    """Also where either list holds a `Stack`."""
    app = serve(setting, one_step, Stack(Reporter("client")), own=[Stack(Reporter("own"))])
    app.post()
    assert LOG == ["own:a", "own"]


@pytest.mark.parametrize("setting", BOTH)
def test_another_name_keeps_both(setting: str) -> None:
    """Where both are meant, one of them is given another name."""
    other = Reporter("own")
    other.name = "other-reporter"
    serve(setting, one_step, Reporter("client"), own=[other]).post()
    assert sorted(LOG) == ["client", "client:a", "own", "own:a"]


@pytest.mark.parametrize("setting", BOTH)
def test_hooks_replace_nothing(setting: str) -> None:
    """Two `Hooks` objects are two sets of hooks."""
    client, own = Hooks("client"), Hooks("own")
    client.before_response(append("client"))
    own.before_response(append("own"))
    serve(setting, one_step, client, own=[own]).post()
    assert sorted(LOG) == ["client", "own"]


@pytest.mark.parametrize("setting", BOTH)
def test_one_per_list_may_be_replaced(setting: str) -> None:
    """One in each list is no mistake: the function's works."""
    serve(setting, one_step, Single("client"), own=[Single("own")]).post()
    assert LOG == ["own:a", "own"]


@pytest.mark.parametrize("setting", BOTH)
def test_a_derived_one_replaces_it_too(setting: str) -> None:
    """Both at once would do everything twice."""
    serve(setting, one_step, Single("client"), own=[OfSingle("own")]).post()
    assert LOG == ["own:a", "own"]


def test_two_in_one_list_are_refused_where_they_make_no_sense() -> None:
    """The message names the class and the way to have another one for a function."""
    with pytest.raises(RegistrationError, match="two Single objects stand in one list"):
        Stack(Single("a"), Single("b"))
    with pytest.raises(RegistrationError, match="two Single objects stand in one list"):
        Stack(Single("a"), OfSingle("b"))
    Stack(Reporter("a"), Reporter("b"))
