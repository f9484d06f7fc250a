"""Where in the stack a plugin sits, and how far a request has come."""

from __future__ import annotations

import enum


class Layer(enum.IntEnum):
    """The place of a plugin in the stack, outermost first.

    Plugins of one stack are sorted by layer; the order in which they were listed only breaks ties.
    """

    OBSERVE = 0
    """Error capture, tracing: sees timing, errors and, in the transform hooks, ciphertext."""

    WIRE = 1
    """Encryption, compression, offloading: what is outside of it is what the engine holds."""

    CONTRACT = 2
    """Validation: always sees plaintext."""

    CONTEXT = 3
    """Metadata, injection, custom hooks: next to the user's function."""


class Phase(enum.Enum):
    """What the function's code is doing in this request."""

    REPLAYING = "replaying"
    """Memoized results are being returned; the code between them has run before."""

    EXECUTING = "executing"
    """All memoized steps have been replayed, or the targeted step was reached: code is new."""
