"""What the doctor says about transports, which stand in no list."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from inngest_plugins.core import Stack
from inngest_plugins.core.stack.diagnoses import diagnoses
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.fetch import DurableTransport, DurableTransportSync


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"where": "engine"}, "is refused where payloads are kept secret"),
        ({"where": "engine", "engine_may_see": ["payloads"]}, "shows the engine its requests"),
    ],
)
@pytest.mark.parametrize("kind", [DurableTransport, DurableTransportSync])
def test_the_doctor_knows_the_transports(
    kind: type[Any], options: dict[str, Any], found: str
) -> None:
    """Those that are there now, and where payloads are kept secret."""
    secret = Stack(EncryptionPlugin(KeyRing(Key("k", bytes(32)))))
    diagnose = diagnoses()["fetch"]
    before = list(diagnose(secret))
    transport, ordinary = kind(**options), kind()
    (finding,) = [each for each in diagnose(secret) if each not in before]
    assert finding.startswith(f'{kind.__name__}(where="engine"')
    assert found in finding
    assert list(diagnose(Stack())) == []
    del transport, ordinary
    gc.collect()
    assert list(diagnose(secret)) == before
