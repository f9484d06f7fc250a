"""Misuse is refused where a plugin is written or registered, with advice."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import BOTH, Engine, serve
from tests.core.core_spies import HOOKS

from inngest_plugins.core import (
    Call,
    HookDefinitionError,
    Hooks,
    Layer,
    MissingExtraError,
    Plugin,
    PluginsError,
    RegistrationError,
    Send,
    Stack,
    StackEntry,
    Step,
    check_function,
    check_seconds,
    require_extra,
)
from inngest_plugins.core.base.checks import require_extra as private_require_extra


def define(**members: Any) -> type[Plugin]:
    """Define a plugin class with these members."""
    return type("MyPlugin", (Plugin,), members)


# ---------------------------------------------------------------- Plugin


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transform_inputs", "did you mean transform_input?"),
        ("before_exection", "did you mean before_execution?"),
        ("on_registered", "did you mean on_register?"),
        ("wrap_step", "the hooks are on_register, transform_input"),
        ("before_lunch", "the hooks are on_register, transform_input"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, staticmethod, classmethod])
def test_a_misspelt_hook(name: str, message: str, wrap: Any) -> None:
    """A method that looks like a hook and is none is refused at class definition."""
    with pytest.raises(HookDefinitionError) as caught:
        define(**{name: wrap(lambda *args: None)})
    text = str(caught.value)
    assert text.startswith(f"MyPlugin.{name} is not a hook: ")
    assert message in text


def test_methods_that_are_no_hooks_are_fine() -> None:
    """Helpers of other names, private ones and attributes are left alone."""
    plugin = define(
        configure=lambda self: 1,
        _before_lunch=lambda self: 2,
        before_what="a string",
        after_image=property(lambda self: 3),
    )()
    assert plugin.hook_functions() == {}
    assert plugin.name == "my"


def method(*parameters: str) -> Any:
    """A function with these parameters."""
    namespace: dict[str, Any] = {}
    exec(f"def hook({', '.join(parameters)}): return None", namespace)
    return namespace["hook"]


@pytest.mark.parametrize(
    ("hook", "parameters", "fine"),
    [
        ("before_execution", ["self", "call"], True),
        ("before_execution", ["self", "call", "extra=1"], True),
        ("before_execution", ["self", "*args"], True),
        ("before_execution", ["self"], False),
        ("before_execution", ["self", "call", "extra"], False),
        ("before_execution", ["self", "call", "*", "extra"], False),
        ("transform_step_input", ["self", "call"], False),
        ("transform_output", ["self", "call", "outcome"], True),
        ("around_step", ["self", "call"], False),
        ("around_step", ["self", "call", "step"], True),
        ("before_send_events", ["self", "send", "more"], False),
        ("on_register", ["self", "client"], True),
    ],
)
def test_signatures_are_checked(hook: str, parameters: list[str], fine: bool) -> None:
    """A hook that could not be called is refused with the signature to write."""
    if fine:
        assert hook in define(**{hook: method(*parameters)})().hook_functions()
        return
    with pytest.raises(HookDefinitionError, match="has the wrong signature") as caught:
        define(**{hook: method(*parameters)})
    assert f"so write it as {hook}(self, " in str(caught.value)


def test_static_and_class_methods_may_be_hooks() -> None:
    """Their signature is checked for what they are bound to."""
    plugin = define(
        before_execution=staticmethod(method("call")),
        after_execution=classmethod(method("cls", "call")),
    )()
    assert set(plugin.hook_functions()) == {"before_execution", "after_execution"}
    with pytest.raises(HookDefinitionError, match=r"write it as before_execution\(call\)"):
        define(before_execution=staticmethod(method("self", "call")))


@pytest.mark.parametrize("value", [None, 3, "text"])
def test_a_hook_that_is_no_function(value: Any) -> None:
    """A hook name bound to something that cannot be called is refused."""
    with pytest.raises(HookDefinitionError, match="is a hook and must be a method"):
        define(before_execution=value)


def test_hooks_whose_signature_python_cannot_tell_are_accepted() -> None:
    """A builtin without a signature is taken as it is."""
    assert define(before_execution=staticmethod(type))().hook_functions()


def generator(self: Any, call: Any) -> Iterator[None]:
    """A generator."""
    yield


async def async_generator(self: Any, call: Any) -> AsyncIterator[None]:
    """An async generator."""
    yield


@pytest.mark.parametrize("function", [generator, async_generator])
@pytest.mark.parametrize("hook", ["before_execution", "transform_input"])
def test_generators_are_no_hooks(hook: str, function: Any) -> None:
    """A `yield` in a plain hook, as pytest fixtures have it, would never run: refused."""
    with pytest.raises(HookDefinitionError, match="is a generator, which only around_step may be"):
        define(**{hook: function})


async def coroutine_step(self: Any, call: Any, step: Any) -> None:
    """A coroutine function."""


def generator_step(self: Any, call: Any, step: Any) -> Iterator[None]:
    """A generator."""
    yield


async def async_generator_step(self: Any, call: Any, step: Any) -> AsyncIterator[None]:
    """An async generator."""
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (coroutine_step, "decorate an async generator with @contextlib.asynccontextmanager"),
        (generator_step, "is a generator: decorate it with @contextlib.contextmanager"),
        (async_generator_step, "decorate it with @contextlib.asynccontextmanager"),
    ],
)
def test_around_step_must_return_a_context_manager(function: Any, message: str) -> None:
    """What does not make a context manager is refused with the decorator to use."""
    with pytest.raises(HookDefinitionError, match=message):
        define(around_step=function)


@pytest.mark.parametrize(
    "function",
    [
        contextlib.contextmanager(generator_step),
        contextlib.asynccontextmanager(async_generator_step),
        lambda self, call, step: contextlib.nullcontext(),
        functools.wraps(generator_step)(contextlib.contextmanager(generator_step)),
    ],
)
def test_around_step_that_is_written_right(function: Any) -> None:
    """Both decorators and plain functions that return a context manager are accepted."""
    assert set(define(around_step=function)().hook_functions()) == {"around_step"}


@pytest.mark.parametrize("setting", BOTH)
def test_around_step_that_returns_something_else_fails_by_its_policy(setting: str) -> None:
    """What only shows when it is called is a failure of the plugin, which names it."""

    class Wrong(Plugin):
        def around_step(self, call: Call, step: Step) -> Any:
            return 3

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: 1)

    reply = serve(setting, body, Wrong()).post()
    assert reply.status == 500
    assert "wrong" in reply.body["message"]
    assert "around_step" in reply.body["message"]


@pytest.mark.parametrize("layer", [None, 0, 1, "WIRE", 9])
def test_an_unknown_layer(layer: Any) -> None:
    """A layer that is no member of `Layer` is refused for classes, hooks and objects."""
    with pytest.raises(HookDefinitionError, match=r"use one of Layer\.OBSERVE, Layer\.WIRE"):
        define(layer=layer)
    with pytest.raises(HookDefinitionError, match=r"Hooks\('audit'\).layer is"):
        Hooks("audit", layer=layer)
    plugin = Plugin()
    plugin.layer = layer
    with pytest.raises(HookDefinitionError, match="is no layer"):
        Stack(plugin)


@pytest.mark.parametrize("fail_open", ["False", 0, 1])
def test_an_unknown_policy(fail_open: Any) -> None:
    """What is neither a bool nor None is refused: the text "False" would count as True."""
    with pytest.raises(HookDefinitionError, match=r"Hooks\('audit'\).fail_open is .*None for"):
        Hooks("audit", fail_open=fail_open)
    plugin = Plugin()
    plugin.fail_open = fail_open
    with pytest.raises(HookDefinitionError, match=r"fail_open is"):
        Stack(plugin)


@pytest.mark.parametrize("name", [7, None])
def test_a_name_that_is_none(name: Any) -> None:
    """Logs and errors need a name."""
    with pytest.raises(HookDefinitionError, match=r"needs a text"):
        Hooks(name)
    plugin = Plugin()
    plugin.name = name
    with pytest.raises(HookDefinitionError, match=r"needs a text"):
        Stack(plugin)


def test_names_are_derived_from_classes() -> None:
    """`SentryPlugin` is called "sentry" unless it says otherwise."""

    class RateLimitPlugin(Plugin): ...

    class Named(Plugin):
        name = "my name"

    class Inheriting(Named): ...

    assert [RateLimitPlugin.name, Named.name, Inheriting.name] == [
        "rate-limit",
        "my name",
        "inheriting",
    ]
    assert repr(Named()) == "<Named 'my name'>"


def test_hooks_are_inherited() -> None:
    """A subclass has the hooks of its base, and may override them."""

    class Base(Plugin):
        def before_execution(self, call: Call) -> None:
            return None

    class Derived(Base):
        def after_execution(self, call: Call) -> None:
            return None

    assert set(Derived().hook_functions()) == {"before_execution", "after_execution"}


def test_the_base_class_does_nothing() -> None:
    """The hooks of `Plugin` itself can be called through `super()` and change nothing."""
    plugin: Any = Plugin()
    for hook in HOOKS:
        result = getattr(plugin, hook)(
            *([None, None] if "step" in hook or "output" in hook else [None])
        )
        assert result is None or isinstance(result, contextlib.nullcontext)
    assert plugin.on_register(None) is None
    assert plugin.hook_functions() == {}
    assert Stack(plugin).sends is False


def test_an_entry_of_neither_kind() -> None:
    """`StackEntry` is not to be derived from directly."""

    class Odd(StackEntry): ...

    with pytest.raises(TypeError, match="Odd must derive from Plugin or Hooks"):
        Stack(Odd())


def test_errors_have_one_base_class() -> None:
    """Every error of the core is a `PluginsError`, and of the built-in kind that fits."""
    assert issubclass(HookDefinitionError, (PluginsError, TypeError))
    assert issubclass(MissingExtraError, (PluginsError, ImportError))
    assert issubclass(RegistrationError, PluginsError)


# ---------------------------------------------------------------- Hooks


@pytest.mark.parametrize("setting", BOTH)
def test_hooks_by_decorator(setting: str) -> None:
    """Functions, sync and async, several for a hook, in the order they were decorated."""
    log: list[str] = []
    audit = Hooks("audit")

    @audit.before_execution
    def first(call: Call) -> None:
        log.append("first")

    @audit.before_execution
    async def second(call: Call) -> None:
        log.append("second")

    @audit.around_step
    @contextlib.contextmanager
    def around(call: Call, step: Step) -> Iterator[None]:
        log.append("open")
        yield
        log.append("close")

    @audit.after_execution
    def third(call: Call) -> None:
        log.append("third")

    @audit.after_execution
    def fourth(call: Call) -> None:
        log.append("fourth")

    @audit.before_send_events
    def sending(send: Send) -> None:
        log.append("sending")

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: log.append("handler"))

    app = serve(setting, body, audit)
    app.post()
    # Outbound hooks unwind: the last decorated comes first.
    expected = ["first", "second", "open", "handler", "close", "fourth", "third"]
    assert log == expected
    with Engine().serving(app.client):
        app.client.send_sync(inngest.Event(name="shop/x"))
    assert log == [*expected, "sending"]
    assert first.__name__ == "first", "the decorated function stays what it is"


def test_hooks_of_a_layer() -> None:
    """The layer and the policy of a `Hooks` are its own."""
    assert Hooks("a").layer is Layer.CONTEXT
    assert not Hooks("a").fails_open()
    assert Hooks("a", layer=Layer.OBSERVE).fails_open()
    assert not Hooks("a", layer=Layer.OBSERVE, fail_open=False).fails_open()
    assert Hooks("a", fail_open=True).fails_open()


def test_misuse_of_hooks() -> None:
    """Misspelt decorators and functions of the wrong shape are refused where they stand."""
    hooks: Any = Hooks("audit")
    with pytest.raises(HookDefinitionError, match="did you mean before_execution"):
        _ = hooks.before_exection
    with pytest.raises(AttributeError, match="has no hook 'unrelated'"):
        _ = hooks.unrelated
    assert not hasattr(hooks, "_private")
    with pytest.raises(HookDefinitionError, match=r"write it as before_execution\(call\)"):
        hooks.before_execution(lambda: None)

    with pytest.raises(HookDefinitionError, match="is an async def"):
        hooks.around_step(functools.partial(coroutine_step, None))

    with pytest.raises(HookDefinitionError, match="must be a method"):
        hooks.before_execution(3)


# ---------------------------------------------------------------- extras


def test_a_missing_extra_names_the_line_that_mends_it() -> None:
    """The error says which modules are missing and what to type."""
    with pytest.raises(MissingExtraError) as caught:
        require_extra("validation-fast", "json", "no_such_module", "no.such.package")
    assert str(caught.value) == (
        "inngest_plugins.validation_fast needs no_such_module, no.such.package, which are not "
        'installed. Install it with: pip install "inngest-plugins[validation-fast]"'
    )
    assert caught.value.name == "no_such_module"
    assert isinstance(caught.value, ImportError)


def test_an_installed_extra_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that are there pass; one that is blocked in `sys.modules` counts as missing."""
    assert private_require_extra is require_extra
    require_extra("local", "json", "os.path", "inngest")
    require_extra("metadata")
    monkeypatch.setitem(sys.modules, "blocked_module", None)
    with pytest.raises(MissingExtraError, match="needs blocked_module, which is not"):
        require_extra("local", "blocked_module")


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("value", "error", "given"),
    [
        (0, ValueError, "not 0$"),
        (-1.5, ValueError, "not -1.5$"),
        (float("nan"), ValueError, "not nan$"),
        (float("inf"), ValueError, "not inf$"),
        pytest.param(10**400, ValueError, "not 1000", id="no float"),
        pytest.param(10**5000, ValueError, "not <text unavailable>$", id="no text"),
        (True, TypeError, "not bool$"),
        ("5", TypeError, "not str$"),
        (None, TypeError, "not NoneType$"),
        (float, TypeError, "not the class float$"),
    ],
)
def test_a_length_of_time_is_finite_and_above_nothing(
    value: object, error: type[Exception], given: str
) -> None:
    """The error names the option, what it takes and what was given; a plugin's own, if it says."""
    named = r"^P\(timeout=\.\.\.\) is a number of seconds above 0, "
    with pytest.raises(error, match=named + given):
        check_seconds("P(timeout=...)", value)
    with pytest.raises(HookDefinitionError, match=r"is 1 to 5 s, " + given):
        check_seconds("P(timeout=...)", value, "1 to 5 s", error=HookDefinitionError)


@pytest.mark.parametrize("value", [1, 0.25, 1e300])
def test_a_length_of_time_is_given_back_as_a_float(value: float) -> None:
    """So that a plugin keeps what it checked."""
    seconds = check_seconds("P(timeout=...)", value)
    assert (seconds, type(seconds)) == (value, float)


class _AsyncObject:
    async def __call__(self) -> None: ...


async def _async_function(given: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "is a function, not int$"),
        (None, "is a function, not NoneType$"),
        (_async_function, "this one is async: make it a plain def$"),
        (functools.partial(_async_function, 1), "this one is async"),
        (_AsyncObject(), "this one is async"),
    ],
)
def test_a_function_that_nobody_would_await_is_refused(value: object, said: str) -> None:
    """Also one in a partial, and an object whose call is async."""
    with pytest.raises(TypeError, match=rf"^P\(key=\.\.\.\) {said}" if "not" in said else said):
        check_function("P(key=...)", value)
    with pytest.raises(HookDefinitionError):
        check_function("P(key=...)", value, error=HookDefinitionError)


@pytest.mark.parametrize("value", [len, str, functools.partial(len, ""), _AsyncObject])
def test_whatever_can_be_called_is_a_function(value: object) -> None:
    """A class makes an object when it is called, also one whose objects are async."""
    check_function("P(key=...)", value)


def test_a_stack_is_asked_of_a_client_and_a_function() -> None:
    """What is neither is named."""
    wrong: Any = 5
    with pytest.raises(RegistrationError, match="not int"):
        Stack.of(wrong)
    with pytest.raises(RegistrationError, match="not int"):
        Stack.of(inngest.Inngest(app_id="app", is_production=False), wrong)
