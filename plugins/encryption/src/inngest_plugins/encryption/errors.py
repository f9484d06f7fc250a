"""The errors of this plugin, and whether another attempt can help.

The SDK reads from an exception's class whether the engine may try again: a class that derives from
`inngest.NonRetriableError` ends the run at once. So each verdict is a class.

No message that this plugin writes repeats a payload or key material, so these messages leave in
the clear. `own` marks them. An error of these classes that other code raised or subclassed is
encrypted like any other.
"""

from __future__ import annotations

from typing import TypeVar, cast

import inngest

from inngest_plugins.core import PluginsError


class EncryptionError(PluginsError):
    """Base of every error of this plugin."""

    written_here: str | None = None
    """The message, where this plugin wrote it; None where other code raised the error."""


class ConfigurationError(EncryptionError, ValueError):
    """Keys or options that cannot work. Raised while the app starts, not in a run."""


class NotSerializableError(EncryptionError, inngest.NonRetriableError):
    """A value that is about to be encrypted has no faithful JSON form.

    Not retriable: the same code will produce the same value.
    """


class DecryptionError(EncryptionError):
    """An encrypted value could not be opened. Nothing of it has reached a handler.

    Raised as such, it is retriable: the key is not known *here*, or was written by a newer
    release, and another worker may know it.

    Attributes:
        reason: why, without the place and the advice to a worker; empty where the message says
            all of it.
        missing_key: the id of the key that is not known here; "" where a format names none and no
            key opened the value; None for any other reason.
    """

    reason: str = ""
    missing_key: str | None = None


class RejectedError(DecryptionError, inngest.NonRetriableError):
    """An encrypted value is damaged, forged, or was moved from the place it was written for.

    Not retriable: no attempt can change that.
    """


class KeyServiceError(DecryptionError):
    """A key provider failed. Retriable: key services come back."""


ErrorT = TypeVar("ErrorT", bound=EncryptionError)


def own(error: ErrorT) -> ErrorT:
    """Mark an error whose message this plugin wrote, and which may leave in the clear."""
    error.written_here = str(error)
    return error


def rejected(message: str) -> RejectedError:
    """Make the error for what no attempt can open."""
    return own(RejectedError(message))


def own_text(error: Exception) -> str | None:
    """Return the message of an error that was marked by `own`; None for any other error."""
    # By `type`: a class of the user may override `__class__`, which `isinstance` asks.
    return cast("EncryptionError", error).written_here if type(error) in _OWN else None


_OWN = frozenset(
    {
        EncryptionError,
        ConfigurationError,
        NotSerializableError,
        DecryptionError,
        RejectedError,
        KeyServiceError,
    }
)


class Refusal(Exception):  # noqa: N818 - internal, turned into one of the above where the place is known
    """Why a value was not opened, before the place of the value is known.

    Attributes:
        reason: a full clause, without the place.
        hint: what to do about it, a full sentence.
        is_retriable: whether another attempt, perhaps on another worker, can succeed.
        missing_key: see `DecryptionError`.
    """

    def __init__(
        self,
        reason: str,
        hint: str,
        *,
        is_retriable: bool = False,
        missing_key: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.is_retriable = is_retriable
        self.missing_key = missing_key

    def at(self, place: str) -> DecryptionError:
        """Make the error to raise for a value at `place`."""
        kind = DecryptionError if self.is_retriable else RejectedError
        error = own(kind(f"cannot decrypt {place}: {self.reason}. {self.hint}"))
        error.reason = self.reason
        error.missing_key = self.missing_key
        return error
