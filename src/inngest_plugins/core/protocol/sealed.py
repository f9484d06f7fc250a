"""Values as the user's code knows them, opened from what WIRE plugins stored.

Whoever runs an app holds its keys, so tools on that machine (the embedded engine, its reports, the
test kit) may show what the app's plugins sealed. The engine, its journal and the wire keep the
sealed values.
"""

from __future__ import annotations

import contextlib
from typing import Any

from inngest_plugins.core.data.attachments import EVENT_KEY, is_joined
from inngest_plugins.core.stack.sealed_place import SealedPlace
from inngest_plugins.core.stack.stack import Stack


def open_sealed(stack: Stack, value: Any, place: SealedPlace) -> Any:
    """Return a stored value as the user's code knows it.

    Asks the plugins from outermost to innermost, as when a request arrives, and takes attachments
    off.

    Args:
        stack: the stack of the function (or of the client, for an event outside of a run).
        value: the value as it is stored. It is not changed.
        place: where it was found.

    Returns:
        The opened value; the value itself when nothing was sealed, and when it cannot be opened.
    """
    opened = value
    for plugin in stack.plugins:
        # A tool that shows values must not fail where one cannot be opened: it shows it sealed.
        with contextlib.suppress(Exception):
            opened = plugin.open_sealed(opened, place)
    if is_joined(opened):
        return opened["value"]
    if place.kind in ("event", "input") and isinstance(opened, dict) and EVENT_KEY in opened:
        return {key: held for key, held in opened.items() if key != EVENT_KEY}
    return opened
