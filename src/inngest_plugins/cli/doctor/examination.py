"""Examines the middleware of an app: its order, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import typing

import inngest

from inngest_plugins.core import (
    Hooks,
    Layer,
    PluginsError,
    Stack,
    StackEntry,
    class_name,
    safe_text,
)
from inngest_plugins.core.sdk.door import middleware_of
from inngest_plugins.core.stack.diagnoses import diagnoses

from .client_checks import Finding, Level, client_findings, mode_of
from .installed_plugins import InstalledPlugin, installed_plugins

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from inngest_plugins.cli.apps.loading import AnyFunction, App

Subject = typing.TypeVar("Subject")

_LEVELS: typing.Final[tuple[Level, ...]] = ("error", "warning", "note")

_OFFICIAL: typing.Final = (
    (
        "inngest_encryption",
        "inngest_plugins.encryption",
        "encrypts payloads a second time; remove it, EncryptionPlugin reads what it wrote",
    ),
    (
        "inngest.experimental.sentry_middleware",
        "inngest_plugins.sentry",
        "reports every error a second time, once for each attempt; remove it",
    ),
)
"""Official middleware (by module), our plugin (by module), what happens when both are there."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One middleware or plugin in the order in which inbound hooks run.

    Attributes:
        name: Its name.
        kind: ``plugin``, ``hooks``, ``middleware`` (ordinary) or ``SDK``.
        layer: The layer's name; empty for ordinary middleware.
        on_error: What an exception in a hook does.
        why: Why it has this position.
        hooks: The hooks it has; empty for ordinary middleware.
    """

    name: str
    kind: str
    layer: str
    on_error: str
    why: str
    hooks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """The order of some functions that share it.

    Attributes:
        functions: Local ids of the functions.
        places: Outermost first.
        secret_payloads: Names of the plugins that keep payloads secret.
    """

    functions: tuple[str, ...]
    places: tuple[Place, ...]
    secret_payloads: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """What an examination found.

    Attributes:
        app_id: The client's app id.
        mode: The client's mode, ``production`` or ``development``, and what set it.
        sections: The orders, each with the functions that have it.
        findings: Errors first, notes last.
        installed: Plugins of other packages that are installed here, used or not.
    """

    app_id: str
    mode: str
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...]
    installed: tuple[InstalledPlugin, ...]


def examine(app: App) -> Report:
    """Look at the middleware of an app's client and functions without running anything."""
    findings: dict[Finding, None] = dict.fromkeys(client_findings(app))
    groups: dict[tuple[tuple[Place, ...], tuple[str, ...]], list[str]] = {}
    used: set[type] = set()
    for function in app.functions:
        where = f"function {function.local_id}"
        own = list(typing.cast("Sequence[object]", middleware_of(function)))
        findings.update(dict.fromkeys(_registration_findings(function)))
        findings.update(dict.fromkeys(_entry_findings([*app.client.middleware, *own], function)))
        try:
            stack = Stack.of(app.client, function)
        except PluginsError as error:
            findings[Finding("error", where, f"{error}. See {error.docs_url()}")] = None
            continue
        used.update(type(entry) for entry in stack.plugins)
        places = tuple(_places(app.client, own, stack))
        secret = tuple(entry.name for entry in stack.plugins if entry.secret_payloads)
        groups.setdefault((places, secret), []).append(function.local_id)
        findings.update(dict.fromkeys(_stack_findings(app.client, own, stack)))
        findings.update(dict.fromkeys(_name_findings(stack, app.functions)))
        findings.update(dict.fromkeys(_replaced_findings(app.client, stack, where)))
    sections = tuple(
        Section(tuple(functions), places, secret) for (places, secret), functions in groups.items()
    )
    ordered = sorted(_merged(findings), key=lambda finding: _LEVELS.index(finding.level))
    installed = installed_plugins(used)
    return Report(app.client.app_id, mode_of(app), sections, tuple(ordered), installed)


def _merged(findings: dict[Finding, None]) -> list[Finding]:
    """Findings that several functions share, each once."""
    by_text: dict[tuple[Level, str], list[str]] = {}
    for finding in findings:
        by_text.setdefault((finding.level, finding.text), []).append(finding.where)
    merged: list[Finding] = []
    for (level, text), wheres in by_text.items():
        functions = [w.removeprefix("function ") for w in wheres if w.startswith("function ")]
        others = [w for w in wheres if not w.startswith("function ")]
        if functions:
            others.append(f"function{'s' * (len(functions) > 1)} {', '.join(functions)}")
        merged.append(Finding(level, ", ".join(others), text))
    return merged


# The order


def _places(client: inngest.Inngest, own: list[object], stack: Stack) -> Iterator[Place]:
    yield Place("logger", "SDK", "", "", "the SDK's own, always first", ())
    placed = False
    for entry in client.middleware:
        if not _is_ours(entry):
            why = "client's list, inside of the plugins" if placed else "client's list"
            yield _ordinary(entry, why)
        elif not placed:
            placed = True
            yield from _plugins(stack)
    if not placed:
        yield from _plugins(stack)
    for added in own:
        if not _is_ours(added):
            yield _ordinary(added, "function's own list, innermost")


def _plugins(stack: Stack) -> Iterator[Place]:
    for entry in stack.plugins:
        same = [other.name for other in stack.plugins if other.layer is entry.layer]
        why = f"layer {entry.layer.name}"
        if len(same) > 1:
            position = [id(other) for other in stack.plugins if other.layer is entry.layer]
            why += f", number {position.index(id(entry)) + 1} of {len(same)} as listed"
        yield Place(
            name=entry.name,
            kind="hooks" if isinstance(entry, Hooks) else "plugin",
            layer=entry.layer.name,
            on_error="logged, run goes on" if entry.fails_open() else "fails the run",
            why=why,
            hooks=tuple(name for name, functions in entry.hook_functions().items() if functions),
        )


def _ordinary(entry: object, why: str) -> Place:
    return Place(_name_of(entry), "middleware", "", "fails the request", why, ())


def _is_ours(entry: object) -> bool:
    return isinstance(entry, (StackEntry, Stack))


def _name_of(entry: object) -> str:
    name = getattr(entry, "__qualname__", None) or type(entry).__qualname__
    # A factory function is known by the class or function that it was made in.
    return str(name).removesuffix(".<locals>._factory").replace(".<locals>", "")


def _module_of(entry: object) -> str:
    return str(getattr(entry, "__module__", None) or type(entry).__module__)


# What is wrong


def _registration_findings(function: AnyFunction) -> Iterator[Finding]:
    try:
        function.get_config("http://localhost")
    except Exception as error:
        # The message quotes the value of the option; its second line is the place alone.
        place = " ".join(str(error).splitlines()[1:2]).strip()
        yield Finding(
            "error",
            f"function {function.local_id}",
            f"the SDK refuses its configuration ({place}), so it cannot be registered; the "
            "trigger of an EventType is event_type.trigger()",
        )


def _entry_findings(entries: list[object], function: AnyFunction) -> Iterator[Finding]:
    where = f"function {function.local_id}"
    seen: set[int] = set()
    for entry in entries:
        if isinstance(entry, type) and issubclass(entry, (StackEntry, Stack)):
            # `Stack.of` raises for it.
            continue
        if _is_ours(entry):
            continue
        name = _name_of(entry)
        if not callable(entry):
            yield Finding(
                "error",
                where,
                f"an entry of its middleware is of type {name}, which the SDK cannot call: list "
                "plugin objects, and inngest.Middleware classes as they are",
            )
            continue
        if id(entry) in seen:
            yield Finding("warning", where, f"middleware {name} is listed twice: it runs twice")
        seen.add(id(entry))
        if not function.is_handler_async and _is_async_only(entry):
            yield Finding(
                "error",
                where,
                f"middleware {name} is asynchronous (inngest.Middleware) and the function is not: "
                "every request will fail; derive it from inngest.MiddlewareSync",
            )


def _is_async_only(entry: object) -> bool:
    return (
        isinstance(entry, type)
        and issubclass(entry, inngest.Middleware)
        and not issubclass(entry, inngest.MiddlewareSync)
    )


def _stack_findings(client: inngest.Inngest, own: list[object], stack: Stack) -> Iterator[Finding]:
    for plugin in stack.plugins:
        where = f"plugin {plugin.name}"
        if plugin.delivery is None and not any(plugin.hook_functions().values()):
            yield Finding("warning", where, "it has no hooks: it does nothing")
        if plugin.layer in (Layer.WIRE, Layer.CONTRACT) and plugin.fails_open():
            yield Finding(
                "warning",
                where,
                f"it is in layer {plugin.layer.name} and fails open: when it fails, payloads go "
                "out as they are; leave fail_open alone or set it to False",
            )
        yield from _told(where, plugin.diagnose, stack)
        yield from _told(where, plugin.diagnose_client, client)
    for where, diagnose in diagnoses().items():
        yield from _told(where, diagnose, stack)
    yield from _double_findings(stack)
    inside = False
    for entry in client.middleware:
        inside = inside or _is_ours(entry)
        if not _is_ours(entry):
            yield from _ordinary_findings(entry, stack, inside=inside)
    for added in own:
        if not _is_ours(added):
            yield from _ordinary_findings(added, stack, inside=True)


def _name_findings(stack: Stack, functions: Sequence[AnyFunction]) -> Iterator[Finding]:
    for plugin in stack.plugins:
        yield from _told(f"plugin {plugin.name}", plugin.diagnose_functions, functions)


def _told(
    where: str, diagnose: Callable[[Subject], Iterable[str]], subject: Subject
) -> Iterator[Finding]:
    """What a plugin's own code says; one that fails does not hide what the others say."""
    try:
        for text in diagnose(subject):
            yield Finding("warning", where, str(text))
    except Exception as error:
        text = f"its diagnosis raised {class_name(error)}: {safe_text(error)}"
        yield Finding("error", where, text)


def _replaced_findings(client: inngest.Inngest, stack: Stack, where: str) -> Iterator[Finding]:
    for plugin in Stack.of(client).plugins:
        if not any(plugin is kept for kept in stack.plugins):
            yield Finding(
                "note",
                where,
                f"its own {type(plugin).__qualname__} replaces the client's (plugin {plugin.name})",
            )


def _double_findings(stack: Stack) -> Iterator[Finding]:
    kinds = [type(plugin) for plugin in stack.plugins if not isinstance(plugin, Hooks)]
    for kind in dict.fromkeys(kinds):
        if kinds.count(kind) > 1:
            yield Finding(
                "warning",
                f"plugin {kind.name}",
                f"{kinds.count(kind)} objects of {kind.__qualname__} are registered and each does "
                "its work: remove all but one, unless that is meant",
            )


def _ordinary_findings(entry: object, stack: Stack, *, inside: bool) -> Iterator[Finding]:
    where = f"middleware {_name_of(entry)}"
    module = _module_of(entry)
    for official, ours, effect in _OFFICIAL:
        has_ours = any(_module_of(type(plugin)).startswith(ours) for plugin in stack.plugins)
        if module.startswith(official) and has_ours:
            yield Finding("error", where, f"stands beside {ours} and {effect}")
            return
    if not stack.secret_payloads:
        return
    secret = ", ".join(entry.name for entry in stack.plugins if entry.secret_payloads)
    if inside:
        yield Finding(
            "warning",
            where,
            f"it runs inside of {secret}: it sees payloads in the clear (only in "
            "before_send_events ciphertext), so check what it does with them",
        )
    else:
        yield Finding(
            "warning",
            where,
            f"it runs outside of {secret}: in transform_input and transform_output it sees "
            "ciphertext; make it a plugin, or list it after the plugins, if it reads payloads",
        )
