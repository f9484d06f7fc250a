"""The wire formats: identifiers, dates, durations, answers."""

from __future__ import annotations

import json

import pytest

from inngest_plugins.local.functions.config import parse_duration
from inngest_plugins.local.wire.ids import (
    UlidFactory,
    app_uuid,
    decode_ulid,
    encode_ulid,
    job_id,
    step_hash,
)
from inngest_plugins.local.wire.protocol import (
    Failure,
    Ops,
    RawAnswer,
    Result,
    canonical,
    decode,
    parse_instant,
    read_answer,
    unwrap,
)
from inngest_plugins.local.wire.trace_ids import trace_and_span_id

SDK = {"x-inngest-sdk": "inngest-py:v0.5.19"}


@pytest.mark.parametrize(
    ("seed", "span"),
    [
        (b"hello", "b5c2db5b06a644c5"),
        (b"test-seed-for-deterministic-span", "1f9f1fae2c8b51c4"),
        (b"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8:0", "b017a66031df8079"),
    ],
)
def test_span_ids_agree_with_other_sdks(seed: bytes, span: str) -> None:
    """The deterministic span ids are those of the server and the TypeScript SDK."""
    assert trace_and_span_id(seed)[1] == span


def test_trace_id_of_a_run_is_the_servers() -> None:
    """The trace id of a recorded run follows from its ULID alone."""
    seed = decode_ulid("01M7Y8120PVQF88D1VSMK7TKTJ")
    assert trace_and_span_id(seed)[0] == "5fec9d6fec3b0f86862b71c40fda1987"


def test_ulids_round_trip_and_never_go_backwards() -> None:
    """ULIDs made within one millisecond sort in the order in which they were made."""
    factory = UlidFactory()
    made = [factory(1_700_000_000.5) for _ in range(100)] + [factory(1_600_000_000)]
    assert made == sorted(made)
    assert len(set(made)) == 101
    assert encode_ulid(int.from_bytes(decode_ulid(made[0]), "big")) == made[0]
    for bad in ("short", "!" * 26, "Z" * 26):
        with pytest.raises(ValueError):
            decode_ulid(bad)


def test_other_identifiers() -> None:
    """App uuids, job ids and step hashes have the server's values and shapes."""
    assert app_uuid("refa") == "be1f7e2b-58c0-5dbc-bb06-fe4971ab289e"
    assert step_hash("a") == "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"
    assert step_hash("p", 1) == "752881753aa4941a0c67a22880d9b4c06c562ff5"
    assert job_id("a", "b").isalnum()
    assert job_id("a", "b") != job_id("ab")


def test_json_survives_as_on_the_server() -> None:
    """Numbers are re-rendered, keys are sorted, text is not escaped, NaN is refused."""
    assert canonical(decode('{"b":1.0,"a":[2.5,1e3],"é":"ü"}')) == '{"a":[2.5,1000],"b":1,"é":"ü"}'
    with pytest.raises(ValueError):
        canonical(float("nan"))


def test_durations() -> None:
    """The SDK's duration strings are seconds; nothing else is accepted."""
    assert [parse_duration(t) for t in ("30s", "2m", "1h30m", "1w", "250ms")] == [
        30,
        120,
        5400,
        604_800,
        0.25,
    ]
    for bad in ("", "5", "s", "1x", "1s2"):
        with pytest.raises(ValueError):
            parse_duration(bad)


def test_instants_without_a_zone_are_utc() -> None:
    """A date without a zone means UTC."""
    assert parse_instant("2026-11-21T05:00:00") == parse_instant("2026-11-21T05:00:00.000Z")


def test_answers_are_told_apart() -> None:
    """Status and headers decide what an answer means, as on the server."""
    ops = read_answer(RawAnswer(206, {**SDK, "x-inngest-no-retry": "true"}, b'[{"op":"StepRun"}]'))
    assert ops == Ops([{"op": "StepRun"}], True, 2)
    assert read_answer(RawAnswer(200, SDK, b"")) == Result(None)
    error = read_answer(RawAnswer(500, {**SDK, "retry-after": "3"}, b'{"name":"E","message":"m"}'))
    assert error == Failure({"name": "E", "message": "m"}, 500, retry_after="3")
    strange = read_answer(RawAnswer(404, SDK, b'"text"'))
    assert isinstance(strange, Failure)
    assert strange.error["message"] == "The app answered HTTP 404."


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (RawAnswer(200, {}, b"{}"), "HTTP 200 before the SDK responded"),
        (RawAnswer(0, {}, b"", "too slow"), "too slow"),
        (RawAnswer(200, SDK, b"{"), "a body that is not JSON"),
        (RawAnswer(206, SDK, b'{"op":1}'), "without a list of steps"),
        (RawAnswer(206, SDK, b"[1]"), "without a list of steps"),
        (unwrap(201, {}, b'   {"body": "cut'), "cut off"),
        (unwrap(201, {}, b"[]"), "cut off"),
    ],
)
def test_unusable_answers_say_why(raw: RawAnswer, message: str) -> None:
    """An answer that cannot be used is a failed attempt with a readable reason."""
    answer = read_answer(raw)
    assert isinstance(answer, Failure)
    assert message in answer.error["message"]


def test_streamed_answers_are_unwrapped() -> None:
    """The inner status, headers and body of a streamed answer are the ones that count."""
    envelope = {"status": 206, "headers": {"X-Inngest-SDK": "x"}, "body": "[]"}
    raw = unwrap(201, {}, b"   " + json.dumps(envelope).encode())
    assert raw == RawAnswer(206, {"x-inngest-sdk": "x"}, b"[]")
