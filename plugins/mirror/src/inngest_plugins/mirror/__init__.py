"""Runs and steps in your own database, correct after crashes, with an API and a page for users."""

import typing

from inngest_plugins.core import require_extra

from . import _extra as _extra
from ._errors import MirrorDatabaseError, MirrorError
from ._plugin import MirrorPlugin, log
from .store.reads import (
    MirroredAttempt,
    MirroredRun,
    MirroredStep,
    Page,
    RunDetail,
)
from .store.reconcile import Reconciled
from .store.rows import LogLine
from .store.scope import Scope
from .store.store import SQLAlchemyStore

if typing.TYPE_CHECKING:
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
    # Only the router needs the web framework, so it is imported on first use.
    if name == "mirror_router":
        require_extra("mirror-web", "fastapi", "jinja2")
        from .web.router import mirror_router

        return mirror_router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
