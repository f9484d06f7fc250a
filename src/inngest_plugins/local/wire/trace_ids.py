"""The server's deterministic trace and span ids.

The server derives them from a seed: the first 24 bytes of the generator *chacha8rand*
(https://c2sp.org/chacha8rand) keyed with SHA-256 of the seed; 16 bytes of trace id, then 8 bytes
of span id. The seed of a run is the 16 bytes of its ULID; of a finished step its hash; of a failed
attempt ``hash:attempt``. Telemetry plugins rely on these ids, so the engine must agree with them.
"""

from __future__ import annotations

import hashlib
import struct

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_MASK = 0xFFFFFFFF
_ROUNDS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def trace_and_span_id(seed: bytes) -> tuple[str, str]:
    """The trace id (32 hex digits) and span id (16 hex digits) of a seed."""
    key = struct.unpack("<8I", hashlib.sha256(seed).digest())
    first = [_first_words(key, counter) for counter in range(4)]
    # chacha8rand interleaves four blocks: word 0 of all four, then word 1 of all four...
    stream = struct.pack("<6I", *(block[0] for block in first), first[0][1], first[1][1])
    return stream[:16].hex(), stream[16:].hex()


def _first_words(key: tuple[int, ...], counter: int) -> tuple[int, int]:
    # Words 0 and 1 are constants, to which chacha8rand does not add the initial state back.
    x = [*_CONSTANTS, *key, counter, 0, 0, 0]
    for _ in range(4):
        for a, b, c, d in _ROUNDS:
            x[a] = (x[a] + x[b]) & _MASK
            v = x[d] ^ x[a]
            x[d] = (v << 16 | v >> 16) & _MASK
            x[c] = (x[c] + x[d]) & _MASK
            v = x[b] ^ x[c]
            x[b] = (v << 12 | v >> 20) & _MASK
            x[a] = (x[a] + x[b]) & _MASK
            v = x[d] ^ x[a]
            x[d] = (v << 8 | v >> 24) & _MASK
            x[c] = (x[c] + x[d]) & _MASK
            v = x[b] ^ x[c]
            x[b] = (v << 7 | v >> 25) & _MASK
    return x[0], x[1]
