"""Standard output and standard error for commands: a reader that has gone is not a failure."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import typing

from inngest_plugins.cli._errors import CliError

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class OutputStream:
    """A text stream that goes on when its reader has gone, and says in one line what else fails.

    Args:
        stream: The stream to write to.
        name: What it is, for messages; None to ignore every failure, as on standard error, where
            no reader is left.
    """

    def __init__(self, stream: typing.TextIO, name: str | None) -> None:
        self._stream = stream
        self._name = name
        self._is_lost = False

    def __getattr__(self, name: str) -> typing.Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, unless its reader has gone."""
        # typer writes an empty text to find out what the stream is, and ignores what that raises.
        if text == "":
            return 0
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            action()
        except OSError as error:
            self._discard()
            # EINVAL is what Windows says of a closed pipe.
            if self._name is None or error.errno in (errno.EPIPE, errno.EINVAL):
                return
            raise CliError(f"cannot write to {self._name}: {error.strerror}") from error

    def _discard(self) -> None:
        """Discard what is still buffered: Python would try to write it again at exit."""
        self._is_lost = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def output_streams() -> Iterator[None]:
    """Put an `OutputStream` before standard output and standard error while the block is open."""
    before = sys.stdout, sys.stderr
    # A process that was started with closed streams has None in their place.
    after = (
        before[0] and OutputStream(before[0], "standard output"),
        before[1] and OutputStream(before[1], None),
    )
    sys.stdout, sys.stderr = typing.cast("tuple[typing.TextIO, typing.TextIO]", after)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
