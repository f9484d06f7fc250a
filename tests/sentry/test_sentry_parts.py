"""The parts of the plugin that need no run."""

# ruff: noqa: SIM105 - what is tested here is how `try` is read

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inngest
import pytest

from inngest_plugins.sentry._handled import is_caught, positions_of_stack, positions_of_traceback
from inngest_plugins.sentry._held import causes
from inngest_plugins.sentry._serializable import serialization_error
from inngest_plugins.sentry._step_tool import failed_step_in
from inngest_plugins.sentry._trace import (
    Carrier,
    RunTrace,
    check_in_id_of_run,
    started_at_of_run,
    take_carrier,
    trace_id_of_run,
    trace_id_of_traceparent,
)

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


# ---------------------------------------------------------------- is the error caught?

StepError = inngest.StepError
NOT_A_CLASS = 5


def here() -> bool:
    """Tell whether the test's own code around the call would catch the error."""
    own = (__file__, "<string>")
    positions = positions_of_stack(sys._getframe(1))
    return is_caught(position for position in positions if position.code.co_filename in own)


def test_code_that_catches() -> None:
    """Handlers for the error or a base of it, and suppress, catch it."""
    found: list[object] = []
    try:
        found.append(here())
    except inngest.StepError:
        pass
    try:
        found.append(here())
    except (KeyError, StepError):
        pass
    try:
        found.append(here())
    except Exception:
        found.append("unreachable")
    try:
        found.append(here())
    except:  # noqa: E722
        pass
    with contextlib.suppress(ValueError, inngest.StepError):
        found.append(here())
    try:
        found.append((lambda: here())())
    except BaseException:
        pass
    assert found == [True] * 6


def test_code_that_does_not_catch() -> None:
    """Handlers for other errors, handlers that raise, `finally`, and code after a `try` do not."""
    found: list[object] = []
    try:
        found.append(here())
    except KeyError:
        pass
    try:
        found.append(here())
    finally:
        found.append("finally")
    try:
        found.append(here())
    except StepError as err:
        raise RuntimeError from err
    except Exception:
        pass
    with contextlib.suppress(KeyError), contextlib.nullcontext(StepError):
        found.append(here())
    try:
        pass
    except StepError:
        pass
    else:
        found.append(here())
    try:
        found.append(here())
    except NOT_A_CLASS:  # type: ignore[misc]
        pass
    try:
        found.append(here())
    except unknown.StepError:  # type: ignore[name-defined]  # noqa: F821
        pass
    found.append(here())
    assert found == [False, False, "finally", False, False, False, False, False, False]


def catching(inner: Callable[[], bool]) -> bool:
    try:
        return inner()
    except Exception:
        return False


def test_code_further_out() -> None:
    """A handler further out catches, also behind one that raises again."""
    assert catching(here)

    def again() -> bool:
        try:
            return here()
        except StepError:
            raise

    assert not again()
    assert catching(again)


def test_code_without_source() -> None:
    """Code whose source is not there counts as not catching."""
    names: dict[str, Any] = {"here": here}
    exec("def hidden():\n try:\n  return here()\n except Exception:\n  pass\n", names)
    assert not names["hidden"]()


def test_lines_of_a_traceback() -> None:
    """The lines that an exception has passed are read off its traceback."""

    def fail() -> None:
        raise ValueError

    def caught() -> None:
        try:
            fail()
        except StepError:
            pass

    for function, expected in ((fail, False), (caught, True)):
        with pytest.raises(ValueError) as info:
            function()
        assert is_caught(positions_of_traceback(info.value.__traceback__.tb_next)) is expected  # type: ignore[union-attr]


@pytest.mark.parametrize("now", ["def fail(:\n", "x = 'never ended\n", "    )\n  (\n", "\0"])
def test_code_whose_file_has_changed(now: str, tmp_path: Path) -> None:
    """A file that no longer holds the running code, or no code at all, catches nothing."""
    file = tmp_path / "deployed.py"
    source = "def fail():\n    try:\n        raise ValueError\n    finally:\n        pass\n"
    names: dict[str, Any] = {}
    exec(compile(source, str(file), "exec"), names)
    file.write_text(now)
    with pytest.raises(ValueError) as info:
        names["fail"]()
    assert not is_caught(positions_of_traceback(info.value.__traceback__))


# ---------------------------------------------------------------- passed-on step failures


def step_error() -> inngest.StepError:
    return inngest.StepError("boom", "ValueError", "")


def test_passed_on_failures() -> None:
    """A step's failure is passed on by itself, by `from it` and by `from None`; not by chance."""
    plain = step_error()
    assert failed_step_in(plain) is plain
    by_cause = RuntimeError()
    by_cause.__cause__ = plain
    assert failed_step_in(by_cause) is plain
    from_none = RuntimeError()
    from_none.__context__, from_none.__suppress_context__ = plain, True
    assert failed_step_in(from_none) is plain
    by_chance = RuntimeError()
    by_chance.__context__ = plain
    assert failed_step_in(by_chance) is None
    assert failed_step_in(ValueError()) is None


def test_circular_causes() -> None:
    """Errors that are each other's cause do not hang the plugin."""
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert failed_step_in(one) is None
    assert list(causes(one)) == [one, other]


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
