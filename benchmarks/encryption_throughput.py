"""What encrypting and decrypting one value costs, against the alternatives, in one run.

    python benchmarks/encryption_throughput.py

Compared are this plugin, the official Python middleware, and what one would write by hand with
AES-256-GCM, orjson and the standard library's base64 (no key id, no checks of the value, no
binding). Rounds are interleaved and medians are printed, so that ratios hold on a busy machine;
absolute numbers do not. Then: what the parts take that no writer of this format can leave out
(orjson, AES-256-GCM with a fresh nonce, pybase64), and so the most that could be gained on the
official middleware with no check of the value at all; the cost under the sixth key of a ring
against its first; sizes.
"""

from __future__ import annotations

import base64
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import inngest_encryption
import orjson
import pybase64
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from figures import figure

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

SIZES = {"100 B": 100, "1 KB": 1_000, "100 KB": 100_000, "4 MB": 4_000_000}
ROUNDS = 15
SECONDS_PER_ROUND = 0.02


class Client:
    """All that the official middleware asks of a client."""

    logger = logging.getLogger("official")


def order(size: int) -> dict[str, Any]:
    """Return an order whose JSON is about so many bytes long."""
    pick = random.Random(7)
    lines: list[dict[str, Any]] = []
    value: dict[str, Any] = {"id": "ord_8f14e45f", "lines": lines}
    length = len(orjson.dumps(value))
    while length < size:
        line = {
            "sku": f"SKU-{pick.randrange(10**8):08d}",
            "title": "Espresso machine, brushed steel, 15 bar",
            "quantity": pick.randrange(1, 9),
            "price": pick.randrange(100, 99_999) / 100,
            "gift": pick.random() < 0.1,
        }
        lines.append(line)
        length += len(orjson.dumps(line)) + 1
    return value


AES = AESGCM(os.urandom(32))


def encrypt_by_hand(value: Any) -> dict[str, Any]:
    nonce = os.urandom(12)
    sealed = AES.encrypt(nonce, orjson.dumps(value), None)
    return {"data": base64.b64encode(nonce + sealed).decode()}


def decrypt_by_hand(envelope: dict[str, Any]) -> Any:
    raw = base64.b64decode(envelope["data"])
    return orjson.loads(AES.decrypt(raw[:12], raw[12:], None))


def seal_only(text: bytes) -> str:
    nonce = os.urandom(12)
    return pybase64.b64encode_as_string(nonce + AES.encrypt(nonce, text, b"head"))


def medians(functions: list[Callable[[], Any]]) -> list[float]:
    """Return microseconds per call of each function, from interleaved rounds."""
    counts: list[int] = []
    for function in functions:
        function()
        started = time.perf_counter()
        function()
        took = time.perf_counter() - started
        counts.append(max(1, int(SECONDS_PER_ROUND / max(took, 1e-7))))
    samples: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, count, sample in zip(functions, counts, samples, strict=True):
            started = time.perf_counter()
            for _ in range(count):
                function()
            sample.append((time.perf_counter() - started) / count * 1e6)
    return [statistics.median(sample) for sample in samples]


def table(official: Any, ours: EncryptionPlugin) -> None:
    print(f"{'':8}{'':9}{'ours':>10}{'by hand':>10}{'official':>10}   (us)", end="")
    print(f"{'official/ours':>16}{'ours/by hand':>14}")
    for name, size in SIZES.items():
        value = order(size)
        sealed, hand, theirs = ours.encrypt(value), encrypt_by_hand(value), official._encrypt(value)
        rows: dict[str, list[Callable[[], Any]]] = {
            "encrypt": [
                partial(ours.encrypt, value),
                partial(encrypt_by_hand, value),
                partial(official._encrypt, value),
            ],
            "decrypt": [
                partial(ours.decrypt, sealed),
                partial(decrypt_by_hand, hand),
                partial(official._decrypt, theirs),
            ],
        }
        for what, functions in rows.items():
            mine, by_hand, theirs_us = medians(functions)
            aims = {"100 B": None, "1 KB": None, "100 KB": 7.0, "4 MB": 8.0}
            aim = aims.get(name) if what == "encrypt" else 2.0
            figure(f"{what} {name}: official / ours", theirs_us / mine, at_least=aim)
            print(
                f"{name:8}{what:9}{mine:10.1f}{by_hand:10.1f}{theirs_us:10.1f}       "
                f"{theirs_us / mine:15.2f}x{mine / by_hand:13.2f}x"
            )


def floor(official: Any) -> None:
    print("\nencrypt, the parts alone (us)")
    print(f"{'':8}{'JSON':>10}{'seal':>10}{'official / both':>18}{'official / seal':>18}")
    for name, size in SIZES.items():
        value = order(size)
        text = orjson.dumps(value)
        json_us, seal_us, theirs_us = medians(
            [
                partial(orjson.dumps, value),
                partial(seal_only, text),
                partial(official._encrypt, value),
            ]
        )
        print(
            f"{name:8}{json_us:10.1f}{seal_us:10.1f}"
            f"{theirs_us / (json_us + seal_us):17.2f}x{theirs_us / seal_us:17.2f}x"
        )


def rotation() -> None:
    keys = [Key.generate(str(number)) for number in range(6)]
    ring = EncryptionPlugin(KeyRing(*keys))
    print("\ndecrypt under the 6th key / under the 1st")
    for name, size in SIZES.items():
        value = order(size)
        first = EncryptionPlugin(keys[0]).encrypt(value)
        last = EncryptionPlugin(keys[5]).encrypt(value)
        one, six = medians([partial(ring.decrypt, first), partial(ring.decrypt, last)])
        print(f"{name:8}{one:10.1f}{six:10.1f} us{six / one:10.2f}x")


def sizes(ours: EncryptionPlugin, official: Any) -> None:
    packed = EncryptionPlugin(KeyRing(Key.generate("2026-11")), compress="zlib")
    print("\nbytes on the wire / bytes of JSON          ours   official   ours, zlib")
    for name, size in SIZES.items():
        value = order(size)
        plain = len(orjson.dumps(value))
        each = [
            len(orjson.dumps(sealed)) / plain
            for sealed in (ours.encrypt(value), official._encrypt(value), packed.encrypt(value))
        ]
        print(f"{name:8}{plain:10} B{'':18}" + "".join(f"{ratio:10.2f}x" for ratio in each))


def main() -> None:
    ours = EncryptionPlugin(KeyRing(Key.generate("2026-11")))
    official: Any = inngest_encryption.EncryptionMiddleware(Client(), None, "passphrase")  # type: ignore[arg-type]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, medians of {ROUNDS} rounds")
    table(official, ours)
    floor(official)
    rotation()
    sizes(ours, official)


if __name__ == "__main__":
    main()
