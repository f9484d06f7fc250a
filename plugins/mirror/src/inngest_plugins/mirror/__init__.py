"""Runs and steps in your own database, correct after crashes, with an API and a page for users."""

import typing

from inngest_plugins.core import require_extra

from . import _extra as _extra
from ._errors import MirrorDatabaseError, MirrorError
from ._plugin import MirrorPlugin, log
from .store.rows import LogLine
from .store.scope import Scope
from .store.store import SQLAlchemyStore

if typing.TYPE_CHECKING:
    from .store.reads import MirroredAttempt, MirroredRun, MirroredStep, Page, RunDetail
    from .store.reconcile import Reconciled
    from .web.router import mirror_router

__all__ = [
    "LogLine",
    "MirrorDatabaseError",
    "MirrorError",
    "MirrorPlugin",
    "MirroredAttempt",
    "MirroredRun",
    "MirroredStep",
    "Page",
    "Reconciled",
    "RunDetail",
    "SQLAlchemyStore",
    "Scope",
    "log",
    "mirror_router",
]


def __getattr__(name: str) -> object:
    # What reads, compares or shows is imported by those who ask for it; most apps only write.
    if name == "mirror_router":
        require_extra("mirror-web", "fastapi", "jinja2")
        from .web.router import mirror_router

        return mirror_router
    if name == "Reconciled":
        from .store.reconcile import Reconciled

        return Reconciled
    if name in __all__:
        from .store import reads

        return getattr(reads, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
