"""The errors of this plugin. A network failure raises none inside a run."""

from __future__ import annotations

from inngest_plugins.core import PluginsError


class MetadataError(PluginsError):
    """Base of everything this plugin raises."""


class MetadataKeyError(MetadataError, ValueError):
    """A key or kind is malformed, reserved or too long."""


class MetadataValueError(MetadataError, ValueError):
    """A value is not JSON, or does not fit what the key holds."""


class MetadataLimitError(MetadataError, ValueError):
    """A write would exceed a size limit of the engine; nothing of it was recorded."""


class MetadataContextError(MetadataError, RuntimeError):
    """There is no run, step, parent or client where one is needed."""


class MetadataSendError(MetadataError):
    """The engine did not take metadata. Only explicit sends raise it: `flush` and `send`."""


class MetadataTargetError(MetadataError, ValueError):
    """The engine cannot do this to metadata whose present value is not known."""
