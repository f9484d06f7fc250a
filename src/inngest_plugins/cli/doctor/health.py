"""Runs the health checks that an app's plugins offer."""

from __future__ import annotations

import dataclasses
import typing

import anyio

from inngest_plugins.core import HealthCheck, PluginsError, Stack, StackEntry, class_name, safe_text

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from inngest_plugins.cli.apps.loading import App

_SECONDS: typing.Final = 10.0
"""How long one check may take."""


@dataclasses.dataclass(frozen=True)
class Health:
    """What a health check found.

    Attributes:
        plugin: The plugin that offers it.
        name: What was checked.
        error: Why it is not healthy; empty when it is.
    """

    plugin: str
    name: str
    error: str


def check_health(app: App) -> tuple[Health, ...]:
    """Run every health check of an app's plugins, one after the other."""
    return anyio.run(_check_all, app)


async def _check_all(app: App) -> tuple[Health, ...]:
    found: list[Health] = []
    for plugin in _plugins(app):
        try:
            checks = [(check.name, check) for check in plugin.health_checks()]
        except Exception as error:
            found.append(Health(plugin.name, "its list of checks", _error_text(error)))
            continue
        found.extend([Health(plugin.name, name, await _run(check)) for name, check in checks])
    return tuple(found)


async def _run(check: HealthCheck) -> str:
    try:
        with anyio.fail_after(_SECONDS):
            await check.check()
    except TimeoutError as error:
        return safe_text(error) or f"no answer in {_SECONDS:.0f} seconds"
    except (Exception, SystemExit) as error:
        return _error_text(error)
    return ""


def _error_text(error: BaseException) -> str:
    text = safe_text(error)
    return f"{class_name(error)}: {text}" if text else class_name(error)


def _plugins(app: App) -> Iterator[StackEntry]:
    """Each plugin of the client and of the functions, once."""
    seen: set[int] = set()
    for function in (None, *app.functions):
        try:
            stack = Stack.of(app.client, function)
        except PluginsError:
            continue  # The report has it as an error.
        for plugin in stack.plugins:
            if id(plugin) not in seen:
                seen.add(id(plugin))
                yield plugin
