"""The parts of the plugin that need no run."""

from __future__ import annotations

import inngest
import pytest

from inngest_plugins.core import exception_chain
from inngest_plugins.sentry.base.serializable import serialization_error
from inngest_plugins.sentry.base.trace import (
    Carrier,
    RunTrace,
    check_in_id_of_run,
    started_at_of_run,
    take_carrier,
    trace_id_of_run,
    trace_id_of_traceparent,
)
from inngest_plugins.sentry.events.causes import causes_of

RUN = "01M7Y89F7P1QJPPV3Z3PET4B7E"
TRACE, SPAN = "a" * 32, "b" * 16

# ---------------------------------------------------------------- trace ids


def test_trace_of_a_run_id() -> None:
    """A trace id derived from a ULID is the ULID's own 128 bits."""
    assert trace_id_of_run("0" * 25 + "1") == "0" * 31 + "1"
    assert trace_id_of_run("7" + "Z" * 25) == "f" * 32
    assert len(trace_id_of_run(RUN)) == 32
    assert trace_id_of_run(RUN) == trace_id_of_run(RUN.lower())


@pytest.mark.parametrize("run_id", ["", "run-1", "8" + "Z" * 25, "U" * 26, "0" * 26])
def test_trace_of_another_run_id(run_id: str) -> None:
    """Any other run id gives a valid trace id too, always the same."""
    assert trace_id_of_run(run_id) == trace_id_of_run(run_id)
    assert len(trace_id_of_run(run_id)) == 32
    assert int(trace_id_of_run(run_id), 16) > 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TRACE),
        (f" 00-{TRACE}-{SPAN}-00 ", TRACE),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", TRACE),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
    ],
)
def test_traceparent(header: str, expected: str | None) -> None:
    """The trace id of a W3C traceparent is read if the header is valid (Trace Context, 3.2)."""
    assert trace_id_of_traceparent(header) == expected


def test_which_trace() -> None:
    """The sender's trace goes before the engine's, and that before the run's own."""
    carrier = Carrier(f"{'c' * 32}-{SPAN}-1")
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert RunTrace.of(RUN, headers, carrier).trace_id == "c" * 32
    assert RunTrace.of(RUN, headers, None).trace_id == TRACE
    assert RunTrace.of(RUN, {}, None).trace_id == trace_id_of_run(RUN)
    assert (
        RunTrace.of(RUN, headers, carrier).root_span_id == RunTrace.of(RUN, {}, None).root_span_id
    )
    assert len(RunTrace.of(RUN, {}, None).root_span_id) == 16


def test_time_and_check_in_of_a_run() -> None:
    """A ULID tells when the run was created; its check-ins share an id that no other run has."""
    assert started_at_of_run("0000000001" + "0" * 16) == 0.001
    assert started_at_of_run("run-1") is None
    assert len(check_in_id_of_run(RUN)) == 32
    assert check_in_id_of_run(RUN) != check_in_id_of_run(RUN[:-1] + "F")


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", {}, {"trace": 1}, {"trace": "x"}, {"trace": f"{TRACE}-{SPAN}-2"}, []],
)
def test_broken_carriers(value: object) -> None:
    """A carrier that is not well formed is no carrier, and is taken off the event all the same."""
    event = inngest.Event(name="e", data={"id": 1, "_sentry": value})  # type: ignore[dict-item]
    assert take_carrier(event) is None
    assert event.data == {"id": 1}


def test_carriers() -> None:
    """A carrier survives the way through an event; baggage that is no header is left out."""
    carrier = Carrier(f"{TRACE}-{SPAN}-1", "sentry-sample_rate=1")
    assert Carrier.from_data(carrier.to_data()) == carrier
    assert carrier.headers() == {
        "sentry-trace": f"{TRACE}-{SPAN}-1",
        "baggage": "sentry-sample_rate=1",
    }
    bare = Carrier(f"{TRACE}-{SPAN}")
    assert Carrier.from_data(bare.to_data()) == bare
    for baggage in (5, "x" * 9000):
        assert Carrier.from_data({"trace": bare.sentry_trace, "baggage": baggage}) == bare


def test_carrier_inside_of_a_failure() -> None:
    """A failure event gives the carrier of the event that the failed run was started by."""
    inner = {"name": "e", "data": {"id": 1, "_sentry": {"trace": f"{TRACE}-{SPAN}"}}}
    event = inngest.Event(
        name="inngest/function.failed",
        data={"run_id": RUN, "event": inner, "events": [inner, "odd", {"data": 5}]},
    )
    assert take_carrier(event) == Carrier(f"{TRACE}-{SPAN}")
    clean = {"name": "e", "data": {"id": 1}}
    assert event.data == {"run_id": RUN, "event": clean, "events": [clean, "odd", {"data": 5}]}
    bare = inngest.Event(name="inngest/function.failed", data={"run_id": RUN})
    assert take_carrier(bare) is None


# ---------------------------------------------------------------- passed-on step failures


def test_causes() -> None:
    """A failure is passed on by itself, by `from it` and by `from None`; not by chance."""
    plain = inngest.StepError("boom", "ValueError", "")
    assert list(causes_of(plain)) == [plain]
    by_cause = RuntimeError()
    by_cause.__cause__ = plain
    assert list(causes_of(by_cause)) == [by_cause, plain]
    from_none = RuntimeError()
    from_none.__context__, from_none.__suppress_context__ = plain, True
    assert list(causes_of(from_none)) == [from_none, plain]
    by_chance = RuntimeError()
    by_chance.__context__ = plain
    assert list(causes_of(by_chance)) == [by_chance]


def test_circular_causes() -> None:
    """Errors that are each other's cause do not hang the plugin."""
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert list(causes_of(one)) == [one, other]
    assert list(exception_chain(one)) == [one, other]


# ---------------------------------------------------------------- outputs that are not JSON


class Number(int):
    """A subclass of a JSON type."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        {"a": [1, 2.5, True, None, ("x", {})], 5: "int key", None: 1},
        [Number(3)],
        {Number(3): 1},
        float("nan"),
        [[[[]]]],
    ],
)
def test_serializable(value: object) -> None:
    """What json.dumps takes is fine."""
    assert serialization_error(value) is None


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def circular() -> object:
    value: list[object] = [1]
    value.append({"again": value})
    return value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, TypeError),
        ({"a": [object()]}, TypeError),
        ({("a", "b"): 1}, TypeError),
        ([b"bytes"], TypeError),
        (circular(), ValueError),
    ],
)
def test_not_serializable(value: object, kind: type[Exception]) -> None:
    """What json.dumps refuses is found, with the error that it gives."""
    assert isinstance(serialization_error(value), kind)


def test_deep_and_big_outputs() -> None:
    """Deep nesting is left to json.dumps; of a very big output only the beginning is looked at."""
    assert serialization_error(nested(300)) is None
    assert isinstance(serialization_error(nested(100_000)), RecursionError)
    assert serialization_error([list(range(60_000)), {1}]) is not None
    assert serialization_error([[{1}], list(range(60_000))]) is None
