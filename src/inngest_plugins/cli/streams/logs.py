"""Makes log records safe for a terminal where logging is not configured."""

from __future__ import annotations

import contextlib
import logging
import sys
import typing

from inngest_plugins.core import printable

if typing.TYPE_CHECKING:
    from collections.abc import Iterator


if typing.TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[typing.TextIO]
else:
    _TextHandler = logging.StreamHandler  # It has no subscript before Python 3.11.


class _PrintableHandler(_TextHandler):
    """Writes warnings to standard error, control characters escaped."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setLevel(logging.WARNING)

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


@contextlib.contextmanager
def printable_logs() -> Iterator[None]:
    """Escape what Python's handler of last resort would write as it is.

    An app that configures logging keeps its own handlers.
    """
    before = logging.lastResort
    if sys.stderr is not None:
        logging.lastResort = _PrintableHandler()
    try:
        yield
    finally:
        logging.lastResort = before
