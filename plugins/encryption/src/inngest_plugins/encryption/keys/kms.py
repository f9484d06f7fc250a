"""`AwsKmsKeyProvider`: data keys from AWS KMS."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from inngest_plugins.core import check_function, check_seconds, require_extra, safe_text
from inngest_plugins.encryption.errors import ConfigurationError

from .key import Key, check_text

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

_UNREADABLE: Final = frozenset(
    {"InvalidCiphertextException", "IncorrectKeyException", "NotFoundException"}
)


class AwsKmsKeyProvider:
    """Encrypts under data keys that AWS KMS made, one for many messages.

    A data key is used for `max_age` seconds or `max_messages` messages, whichever ends first, and
    travels with each message as KMS encrypted it. Who reads a message asks KMS once for its data
    key and keeps that in memory for `max_age`. So KMS decides who can read, and sees one call per
    worker and data key. KMS is called in a worker thread; the event loop does not wait.

    Args:
        key_id: id, ARN or alias of the KMS key that protects the data keys.
        client: a boto3 KMS client; by default one from the environment's credentials.
        max_age: seconds.
        max_messages: messages for each data key.
        encryption_context: bound to each data key by KMS, and visible in CloudTrail.
        clock: seconds that only go forward.

    Raises:
        ConfigurationError: for a limit that is no number above 0, a key id or a context that is
            no text, or when boto3 finds no region.
        MissingExtraError: boto3 is not installed.
    """

    def __init__(
        self,
        key_id: str,
        *,
        client: KMSClient | None = None,
        max_age: float = 300.0,
        max_messages: int = 100_000,
        encryption_context: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require_extra("kms", "boto3")
        check_text("AwsKmsKeyProvider(key_id)", key_id)
        if not key_id:
            raise ConfigurationError("AwsKmsKeyProvider(key_id) is empty")
        check_seconds("AwsKmsKeyProvider(max_age=...)", max_age, error=ConfigurationError)
        messages: object = max_messages
        if isinstance(messages, bool) or not isinstance(messages, int) or messages <= 0:
            raise ConfigurationError(
                "AwsKmsKeyProvider(max_messages=...) is a whole number of messages above 0"
            )
        check_function("AwsKmsKeyProvider(clock=...)", clock, error=ConfigurationError)
        self._context = _checked_context(encryption_context)
        if client is None:
            client = _client_of_environment()
        self._key_id = key_id
        self._client: KMSClient = client
        self._max_age = max_age
        self._max_messages = max_messages
        self._clock = clock
        self._lock = threading.Lock()
        self._current: tuple[Key, float] | None = None
        self._used = 0
        self._opened: dict[str, tuple[Key, float]] = {}

    def encryption_key(self) -> Key | Awaitable[Key]:
        """Return the current data key; asks KMS for a new one when it is used up."""
        with self._lock:
            if self._current is not None:
                key, made = self._current
                if self._clock() - made < self._max_age and self._used < self._max_messages:
                    self._used += 1
                    return key
        # Imported when it is used, as many programs do without it (`startup`).
        import anyio.to_thread

        return anyio.to_thread.run_sync(self._generate)

    def decryption_key(
        self, key_id: str, wrapped: str | None
    ) -> Key | Awaitable[Key | None] | None:
        """Return a message's data key, from memory or from KMS; None if KMS cannot open it."""
        if wrapped is None or _fingerprint(wrapped) != key_id:
            return None
        with self._lock:
            known = self._opened.get(key_id)
            if known is not None and self._clock() - known[1] < self._max_age:
                return known[0]
        import anyio.to_thread

        return anyio.to_thread.run_sync(self._open, key_id, wrapped)

    def _generate(self) -> Key:
        answer = self._client.generate_data_key(
            KeyId=self._key_id, KeySpec="AES_256", EncryptionContext=self._context
        )
        wrapped = base64.urlsafe_b64encode(answer["CiphertextBlob"]).decode()
        key = Key(_fingerprint(wrapped), answer["Plaintext"], wrapped=wrapped)
        with self._lock:
            self._current = key, self._clock()
            self._used = 1
            self._keep(key)
        return key

    def _open(self, key_id: str, wrapped: str) -> Key | None:
        try:
            blob = base64.urlsafe_b64decode(wrapped)
            answer = self._client.decrypt(
                CiphertextBlob=blob, KeyId=self._key_id, EncryptionContext=self._context
            )
        except Exception as err:
            if _code_of(err) in _UNREADABLE:
                return None
            raise
        key = Key(key_id, answer["Plaintext"], wrapped=wrapped)
        with self._lock:
            self._keep(key)
        return key

    def _keep(self, key: Key) -> None:
        now = self._clock()
        for stale in [i for i, (_, at) in self._opened.items() if now - at >= self._max_age]:
            del self._opened[stale]
        self._opened[key.id] = key, now

    def __repr__(self) -> str:
        return f"<AwsKmsKeyProvider {self._key_id!r}>"


def _checked_context(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping | None):
        raise ConfigurationError(
            "AwsKmsKeyProvider(encryption_context=...) is a dict of texts, not "
            f"{type(given).__name__}"
        )
    context = dict(given or {})
    for text in (*context, *context.values()):
        check_text("each name and value of AwsKmsKeyProvider(encryption_context=...)", text)
    return context


def _client_of_environment() -> KMSClient:
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.client("kms")
    except BotoCoreError as err:
        raise ConfigurationError(
            f"boto3 makes no KMS client from the environment: {safe_text(err)} Set that, or give "
            "AwsKmsKeyProvider(client=...)"
        ) from err


def _fingerprint(wrapped: str) -> str:
    return "kms-" + hashlib.sha256(wrapped.encode()).hexdigest()[:24]


def _code_of(err: Exception) -> str | None:
    response: Any = getattr(err, "response", None)
    if isinstance(err, ValueError):
        return "InvalidCiphertextException"
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None
