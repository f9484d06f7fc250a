"""The benchmark on a real server finds each fault that it says it looks for."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.composition.composition_secrets import HEAD

FILE = Path(__file__).parents[2] / "benchmarks" / "real" / "counted.py"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's module."""
    spec = importlib.util.spec_from_file_location("real_counted", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def ended(status: str, output: Any = None) -> dict[str, Any]:
    return {"run_id": "r", "status": status, "output": output}


def test_lost_doubled_and_wrong(counted: Any) -> None:
    """Orders without an ended run, with two, and with another end than they must have."""
    orders = {
        name: counted.Order(name, name, "customer", name == "declined")
        for name in ("good", "lost", "two", "failed", "other", "declined")
    }
    runs = {
        "good": [ended("Completed", json.dumps(orders["good"].result()))],
        "lost": [ended("Running")],
        "two": [ended("Completed", orders["two"].result())] * 2,
        "failed": [ended("Failed")],
        "other": [ended("Completed", {})],
        "declined": [ended("Failed")],
    }
    report = counted.Report()
    counted.check_runs(report, orders.values(), runs, lambda value: value)
    assert report.lost == ["lost"]
    assert [text.split(":")[0] for text in report.doubled] == ["two"]
    assert [text.split(":")[0] for text in report.wrong] == ["failed", "other"]
    assert not report.is_good


def test_effects(counted: Any) -> None:
    """A step of two runs and a second charge are doubled, a step that is missing is wrong."""
    orders = [counted.Order(name, name, "c", declined=False) for name in ("ok", "twice", "half")]
    rows = [
        {"order_id": order.number, "step": step, "times": 1 + (step == "mail")}
        for order in orders
        for step in sorted(order.effects())
        if (order.number, step) != ("half", "label")
    ]
    charges = {name: types.SimpleNamespace(order_id=name) for name in ("ok", "half", "twice")}
    charges["another key"] = types.SimpleNamespace(order_id="twice")
    report = counted.Report()
    counted.check_effects(report, orders, rows, charges)
    assert [text.split(":")[0] for text in report.doubled] == ["twice"]
    assert [text.split(":")[0] for text in report.wrong] == ["half"]
    assert report.repeated == 3


def test_traces_events_and_leaks(counted: Any) -> None:
    """A run in two traces, a failure under two ids, an event of nobody's, and the canary."""
    request: Any = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for run_id, trace in (("one", b"1" * 16), ("one", b"1" * 16), ("two", b"2"), ("two", b"3")):
        attribute = spans.add(trace_id=trace).attributes.add(key="inngest.run.id")
        attribute.value.string_value = run_id
    report = counted.Report()
    counted.check_traces(report, [request.SerializeToString()], {"one", "two", "none"})
    assert report.traces == {1: 1, 2: 1, 0: 1}

    def envelope(run_id: str, event_id: str) -> bytes:
        exception = {"values": [{"type": "ValueError", "value": "no luck\nat all"}]}
        event = {
            "event_id": event_id,
            "level": "error",
            "tags": {"inngest.run.id": run_id},
            "exception": exception,
        }
        return b'{"dsn": ""}\n{"type": "event"}\n' + json.dumps(event).encode()

    failed = {"once": True, "twice": True, "unheard": True, "excused": False}
    names = ("once", "once", "twice", "twice", "completed")
    sent = [envelope(name, event_id) for name, event_id in zip(names, "aabcd", strict=True)]
    counted.check_sentry(report, sent, failed)
    assert report.events == {1: 1, 2: 1, 0: 1}
    assert (report.excused, report.others) == (1, {"ValueError None: no luck": 1})

    counted.check_leaks(report, [("log", "nothing"), ("trace", f"a {HEAD} b")])
    assert {text.split(":")[0] for text in report.leaked} == {"trace"}
    assert f"leaked              {len(report.leaked)}" in str(report)
    assert "1 times ValueError None: no luck\n" in str(report)
