"""What can go wrong, and whether another attempt can help.

The SDK asks an exception whether the engine may try again, and looks at its class: whatever
derives from `inngest.NonRetriableError` ends the run at once. So each verdict is a class.

No message here repeats a payload or key material; that is why these errors, unlike those of user
code, are sent to the engine in the clear.
"""

from __future__ import annotations

import inngest

from inngest_plugins.core import PluginsError


class EncryptionError(PluginsError):
    """Base of every error of this plugin."""


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
        reason: why, without the place and the advice to a worker; empty where there is no more
            to tell than the message.
        missing_key: the id of the key that is not known here; "" where a format names none and no
            key opened the value; None for any other reason.
    """

    reason: str = ""
    missing_key: str | None = None


class RejectedError(DecryptionError, inngest.NonRetriableError):
    """An encrypted value is damaged, forged, or not where it was written for.

    Not retriable: no attempt can change that.
    """


class KeyServiceError(DecryptionError):
    """A key provider failed. Retriable: key services come back."""


class Refusal(Exception):  # noqa: N818 - internal, turned into one of the above where the place is known
    """Why a value was not opened, before it is known where the value sat.

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
        """Make the error to raise for a value that sat at `place`."""
        kind = DecryptionError if self.is_retriable else RejectedError
        error = kind(f"cannot decrypt {place}: {self.reason}. {self.hint}")
        error.reason = self.reason
        error.missing_key = self.missing_key
        return error
