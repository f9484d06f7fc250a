"""Encrypting clients on the embedded engine, with everything that crosses the wire kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import inngest
import pytest

from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine

CANARY = "c4n4ry-\u00e9-\u5bc6-8d1f0a"


@dataclass
class App:
    """A client with an encryption plugin, its plugin, and its functions."""

    client: inngest.Inngest
    plugin: EncryptionPlugin
    functions: list[inngest.Function[Any]]

    def function(self, fn_id: str, event: str, **options: Any) -> Callable[..., Any]:
        """Declare a function."""
        declare = self.client.create_function(
            fn_id=fn_id, trigger=inngest.TriggerEvent(event=event), **options
        )

        def register(handler: Any) -> inngest.Function[Any]:
            function: inngest.Function[Any] = declare(handler)
            self.functions.append(function)
            return function

        return register

    def engine(self, **options: Any) -> LocalEngine:
        """Return an engine that serves the app."""
        return LocalEngine(self.client, self.functions, **options)


MakeApp = Callable[..., App]


@pytest.fixture
def make_app() -> MakeApp:
    """Makes apps: `make_app(keys=None, app_id="shop", **plugin options)`."""

    def make(
        keys: Any = None, *, app_id: str = "shop", plugins: Sequence[Any] = (), **options: Any
    ) -> App:
        plugin = EncryptionPlugin(KeyRing.generate() if keys is None else keys, **options)
        client = inngest.Inngest(app_id=app_id, is_production=False, middleware=[plugin, *plugins])
        return App(client, plugin, [])

    return make


@pytest.fixture
def canary() -> str:
    """A text that must not leave the app, with characters that JSON escapes."""
    return CANARY


@pytest.fixture
def wire() -> Callable[[LocalEngine], str]:
    """Everything the engine has sent, received and stored, as one text."""

    def collect(engine: LocalEngine) -> str:
        seen: list[Any] = []
        texts: list[str] = []
        for run in engine.runs:
            for each in run.requests:
                texts.extend([each.request_bytes.decode(), each.response_bytes.decode()])
            seen.append([run.output, run.error, list(run.events_sent)])
            seen.append([[step.memo, step.errors, step.opts] for step in run.steps.values()])
        return "\n".join([*texts, json.dumps(seen, ensure_ascii=False, default=str)])

    return collect


@pytest.fixture
def leaks() -> Callable[[str], list[str]]:
    """Tells in which forms the canary stands in a text."""

    def find(text: str) -> list[str]:
        raw = CANARY.encode()
        forms = {
            "plain": CANARY,
            "escaped": json.dumps(CANARY)[1:-1],
            "utf-16": CANARY.encode("utf-16-le").decode("latin-1"),
            "percent": "".join(f"%{byte:02x}" for byte in raw),
            "hex": raw.hex(),
        }
        for shift in range(3):
            # What base64 makes of it depends on where it stands; the middle stays the same.
            encoded = base64.b64encode(b"\0" * shift + raw).decode()
            forms[f"base64+{shift}"] = encoded[4:-4]
        return [form for form, spelling in forms.items() if spelling in text]

    return find
