"""All plugins on a real server, on two worker processes of which one is killed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest
from tests.composition.composition_secrets import HEAD, TAIL, all_leaks

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

APP = "live-composition"
CANARY = HEAD + TAIL
WORKER = Path(__file__).with_name("live_app.py")
EXPORTS = ("sentry-*", "spans-*", "log-*")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyRing:
    """Keys that the workers read from their environment, as they do the rest."""
    key = Key.generate("live")
    monkeypatch.setenv("LIVE_KEYS", key.to_text())
    monkeypatch.setenv("LIVE_OUT", str(tmp_path))
    monkeypatch.setenv("LIVE_CANARY", CANARY)
    return KeyRing(key)


def start(server: LiveServer, keys: KeyRing, **data: Any) -> tuple[str, str]:
    """Send an order; returns the event's id and the id of the run it starts."""
    client = server.client("live-composition-sender", middleware=[EncryptionPlugin(keys)])
    number = str(uuid.uuid4())
    order = {"order": number, "encrypted": {"card": f"{CANARY} card"}, **data}
    (event_id,) = client.send_sync(inngest.Event(name=f"{APP}/order", data=order))
    return event_id, server.run_ids(event_id)[0]


def wait_until(found: Any, what: str, *, timeout: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def below(span: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The spans below one, at any depth."""
    for child in (span or {}).get("childrenSpans") or ():
        yield child
        yield from below(child)


def held_by(server: LiveServer, event_id: str, run: Any) -> Iterator[tuple[str, str]]:
    """What the server shows of a run: its trace, outputs of steps, and the events."""
    yield "run", json.dumps(run, ensure_ascii=False)
    for span in below(run["trace"]):
        if span.get("outputID"):
            query = '{runTraceSpanOutputByID(outputID:"%s"){data error{name message stack}}}'
            yield str(span["name"]), json.dumps(server.query(query % span["outputID"]))
    yield "event", httpx.get(f"{server.url}/v1/events/{event_id}", timeout=30).text
    yield "events", httpx.get(f"{server.url}/v1/events?limit=100", timeout=30).text


def exported_to(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What the workers would have exported, and logged."""
    for pattern in EXPORTS:
        for file in folder.glob(pattern):
            yield file.name, file.read_bytes()


def test_live_a_killed_worker_loses_nothing_and_nothing_leaks(
    live_server: LiveServer, keys: KeyRing, tmp_path: Path
) -> None:
    """A run whose worker is killed inside of a step ends right on another, encrypted throughout."""
    first = live_server.serve_process(WORKER)
    event_id, run_id = start(live_server, keys, slow=True)
    wait_until((tmp_path / "slow-began").exists, "the slow step did not begin")
    second = live_server.serve_process(WORKER)
    first.kill()
    first.wait()
    # The server tries again after up to 45 s, as it does after any failure.
    run = live_server.ended(run_id, timeout=240)

    assert run["status"] == "COMPLETED"
    output = EncryptionPlugin(keys).decrypt(json.loads(run["output"]))
    assert output == {
        "card": f"{CANARY} card",
        "first": [f"{CANARY} first", f"{CANARY} slow"],
        "sides": [f"{CANARY} left", f"{CANARY} right"],
        "children": [{"child": f"{CANARY} one"}, {"child": f"{CANARY} two"}],
        "answered": f"{CANARY} answer",
    }
    steps = [line.split() for line in (tmp_path / "steps").read_text().splitlines()]
    assert sorted(name for name, _ in steps) == ["first", "left", "right"]
    assert dict(steps)["first"] == str(first.pid)
    assert dict(steps)["left"] == dict(steps)["right"] == str(second.pid)
    assert all_leaks(held_by(live_server, event_id, run)) == []
    assert all_leaks(exported_to(tmp_path)) == []
    wait_until(
        lambda: (
            '"first"' in (shown := json.dumps(_metadata(live_server, run_id)).replace("\\", ""))
            and '"done"' in shown
        ),
        "the metadata of the first step is not shown",
    )


def _metadata(server: LiveServer, run_id: str) -> list[Any]:
    trace = server.run(run_id)["trace"]
    spans = [trace, *below(trace)]
    return [entry for span in spans for entry in span.get("metadata") or ()]


def test_live_a_failing_run_tells_its_handler_and_nobody_else(
    live_server: LiveServer, keys: KeyRing, tmp_path: Path
) -> None:
    """A failure's text is plaintext in on_failure, ciphertext at the server, one Sentry event."""
    live_server.serve_process(WORKER)
    event_id, run_id = start(live_server, keys, fails=True)
    run = live_server.ended(run_id, timeout=120)

    assert run["status"] == "FAILED"
    assert all_leaks(held_by(live_server, event_id, run)) == []
    wait_until(
        lambda: "tell" in (tmp_path / "steps").read_text(), "on_failure did not run", timeout=60
    )
    lines = (tmp_path / "requests").read_text()
    wait_until(lambda: f"{APP}-fulfil" in lines, "no request was noted")
    assert all_leaks(exported_to(tmp_path)) == []
    (sentry,) = tmp_path.glob("sentry-*")
    headers = [line for line in sentry.read_text("utf-8").splitlines() if '"exception"' in line]
    errors = [error for error in map(json.loads, headers) if error.get("level") == "error"]
    assert [error["tags"]["inngest.run.id"] for error in errors] == [run_id]
