"""Finds installed plugins of other packages by their entry points."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PLUGIN_GROUP: typing.Final = "inngest_plugins.plugins"
"""A package names its plugins in this group: the name, and ``module:Class``."""


@dataclasses.dataclass(frozen=True)
class InstalledPlugin:
    """A plugin that a package offers.

    Attributes:
        name: Its name in the group.
        object: ``module:Class``.
        package: Name of the package that has it.
        version: Version of that package.
        in_use: Whether a function of the app has an object of the class.
    """

    name: str
    object: str
    package: str
    version: str
    in_use: bool


def installed_plugins(used: Collection[type]) -> tuple[InstalledPlugin, ...]:
    """List the plugins that installed packages name, by name, without importing any.

    Args:
        used: The classes of the plugins that the app has.
    """
    return tuple(sorted(_found(used), key=lambda plugin: (plugin.name, plugin.package)))


def _found(used: Collection[type]) -> Iterator[InstalledPlugin]:
    for entry_point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        distribution = entry_point.dist
        yield InstalledPlugin(
            entry_point.name,
            entry_point.value,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
            any(_imported(entry_point.value) is each for each in used),
        )


def _imported(value: str) -> object:
    """What ``module:Class`` means if the app has imported it, else None."""
    module, _, attributes = value.partition(":")
    found: object = sys.modules.get(module.strip())
    for attribute in attributes.strip().split("."):
        found = getattr(found, attribute, None)
    return found
