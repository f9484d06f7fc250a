"""Every recorded value of the official middlewares."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.encryption import DecryptionError, EncryptionPlugin, Key, KeyRing

VECTORS = Path(__file__).parent / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


def opener(vector: dict[str, Any]) -> EncryptionPlugin:
    key = vector["key"]
    secret = key.encode() if vector.get("key_kind") == "bytes" else key
    return EncryptionPlugin(KeyRing(Key.official(secret)), strategy="libsodium")


def same(left: Any, right: Any) -> bool:
    """Equality that tells True from 1, 0 from -0.0 no more than JSON does, and NaN equals NaN."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return (isinstance(left, bool) == isinstance(right, bool)) and bool(left == right)


@pytest.mark.parametrize("name", ["public.json", "disagreements.json"])
def test_every_positive_vector_opens(name: str) -> None:
    """What any official middleware wrote opens to exactly what was put in."""
    wrong = [
        vector["id"]
        for vector in load(name)
        if not same(opener(vector).decrypt(vector["payload"]), json.loads(vector["plaintext_json"]))
    ]
    assert not wrong


def test_every_positive_vector_opens_with_its_key_behind_others() -> None:
    """A key's place in the ring does not matter for reading."""
    others = [Key.official("another key"), Key.generate("own"), Key.official("a third")]
    for vector in load("public.json"):
        secret = vector["key"].encode() if vector["key_kind"] == "bytes" else vector["key"]
        plugin = EncryptionPlugin(KeyRing(*others, Key.official(secret)), strategy="libsodium")
        assert same(plugin.decrypt(vector["payload"]), json.loads(vector["plaintext_json"]))


def test_every_negative_vector_behaves_as_expected() -> None:
    """Damaged values are errors, values that merely look alike pass unchanged."""
    outcomes = {"error": 0, "passthrough": 0, "value": 0}
    for vector in load("negative_public.json"):
        expected = vector["expect"]
        if expected == "differs":
            continue
        try:
            got = opener(vector).decrypt(vector["payload"])
        except DecryptionError:
            assert expected == "error", vector["id"]
        else:
            assert expected != "error", vector["id"]
            wanted = vector["payload"] if expected == "passthrough" else vector["expect_value"]
            assert same(got, wanted), vector["id"]
        outcomes[expected] += 1
    assert outcomes == {"error": 200, "passthrough": 112, "value": 19}


def test_where_the_implementations_differ_the_strict_verdict_holds() -> None:
    """A value that official readers disagree on never comes through as ciphertext."""
    for vector in load("negative_public.json"):
        if vector["expect"] != "differs" or vector["kind"] == "key_whitespace":
            continue
        with pytest.raises(DecryptionError):
            opener(vector).decrypt(vector["payload"])
