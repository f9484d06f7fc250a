"""The errors of the mirror."""

from __future__ import annotations

from inngest_plugins.core import PluginsError


class MirrorError(PluginsError):
    """An argument of the mirror cannot be used."""


class MirrorDatabaseError(MirrorError):
    """The mirror's database could not be reached, did not answer in time, or has no tables."""
