"""Identifiers in the shapes that the Inngest server gives them."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import uuid

from inngest_plugins.core import ulid_value

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

ACCOUNT_ID = "00000000-0000-4000-a000-000000000000"
"""The account of every dev server."""


class UlidFactory:
    """Makes ULIDs (https://github.com/ulid/spec) that never go backwards.

    Ids made within one millisecond count upwards, so sorting by id is sorting by creation.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self, now: float) -> str:
        """Make the ULID of an instant.

        Args:
            now: Seconds since the epoch.
        """
        fresh = (int(now * 1000) << 80) | int.from_bytes(os.urandom(10), "big") >> 1
        with self._lock:
            self._last = fresh if fresh > self._last else self._last + 1
            return encode_ulid(self._last)


def encode_ulid(value: int) -> str:
    """The 26 characters of a 128-bit ULID."""
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -5, -5))


def seeded_ulid(seed: str, number: int) -> str | None:
    """The ULID that ``x-inngest-event-id-seed`` asks for, as ``pkg/event/id.go`` makes it.

    Args:
        seed: ``"<ms since the epoch>,<10 bytes in base64>"``.
        number: Position of the event in its request, from 1.

    Returns:
        The ULID; None when the seed is not one.
    """
    millis, _, encoded = seed.partition(",")
    try:
        entropy, instant = base64.b64decode(encoded, validate=True), int(millis)
    except ValueError:
        return None
    if len(entropy) != 10 or not 0 < instant < 1 << 48:
        return None
    last = (int.from_bytes(entropy[6:], "big") + number) & 0xFFFF_FFFF
    return encode_ulid(instant << 80 | int.from_bytes(entropy[:6], "big") << 32 | last)


def deterministic_ulid(like: bytes, seed: str) -> str:
    """The ULID that ``util.DeterministicULID`` of the server makes.

    Args:
        like: The 16 bytes of a ULID; the new one has its time.
        seed: What the rest is derived from.
    """
    digest = hashlib.sha256(seed.encode()).digest()
    return encode_ulid(int.from_bytes(like[:6] + digest[:10], "big"))


def decode_ulid(text: str) -> bytes:
    """The 16 bytes of a ULID.

    Raises:
        ValueError: It is not a ULID.
    """
    value = ulid_value(text)
    if value is None:
        raise ValueError("a ULID is 26 characters of Crockford's base 32, 128 bits")
    return value.to_bytes(16, "big")


def app_uuid(app_id: str) -> str:
    """The dev server's uuid of an app: UUIDv5 of its id in the OID namespace."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, app_id))


def function_uuid(app_id: str, function_id: str) -> str:
    """A stable uuid for a function (the server's own recipe depends on the serve URL)."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{app_uuid(app_id)}-{function_id}"))


def job_id(*parts: str) -> str:
    """A queue job's id, derived from what the job is for, in the server's base-36 shape."""
    digest = hashlib.sha1("\x00".join(parts).encode(), usedforsecurity=False).digest()
    value = int.from_bytes(digest[:8], "big")
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = _BASE36[digit] + digits
    return digits or "0"


def queue_item_ref(job: str) -> str:
    """What a request calls its queue item (``queueref``): job and shard, in base 64."""
    return base64.b64encode(f"{job}::default".encode()).decode()


def read_queue_item_ref(reference: object) -> str:
    """The job that a queue item's reference names; empty when it is not one."""
    if not isinstance(reference, str) or not reference:
        return ""
    try:
        job, _, shard = base64.b64decode(reference, validate=True).decode().partition("::")
    except ValueError:
        return ""
    return job if shard else ""


def step_hash(step_id: str, index: int = 0) -> str:
    """The engine's id of a step: SHA-1 of its id, or of ``id:n`` when the id is used again."""
    key = f"{step_id}:{index}" if index else step_id
    return hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
