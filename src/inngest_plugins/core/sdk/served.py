"""Which functions an app serves: the SDK names them to the handler of its endpoint only.

They are noted from when this module is imported, which is when the first plugin asks for it.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from typing import Any, Final

import inngest

with warnings.catch_warnings():
    # The SDK's module warns of how it configures a model: nothing that a user could mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    from inngest._internal import comm_lib

_NAME: Final = "__init__"
_original: Final[Any] = comm_lib.CommHandler.__dict__[_NAME]
_served: Final[weakref.WeakKeyDictionary[inngest.Inngest, set[str]]] = weakref.WeakKeyDictionary()


def _note_served_functions() -> None:
    """Have the SDK note the functions of each endpoint and `connect` worker that is made."""

    @functools.wraps(_original)
    def noting(self: Any, **options: Any) -> None:
        _original(self, **options)
        ids = _served.setdefault(options["client"], set())
        ids.update(function.id for function in options["functions"])

    setattr(comm_lib.CommHandler, _NAME, noting)


def served_functions(client: inngest.Inngest) -> frozenset[str] | None:
    """Return the engine's ids of the functions that this process serves of an app.

    Args:
        client: the app's client.

    Returns:
        The ids, `"<app>-<function>"`; None when the process serves nothing of it, or began to
        before this function was imported.
    """
    ids = _served.get(client)
    return None if ids is None else frozenset(ids)


_note_served_functions()
