"""Reading the ``--event`` option."""

from __future__ import annotations

import io
import pathlib
import sys

import pytest

from inngest_plugins.cli import CliError
from inngest_plugins.cli.run.event_option import read_events


def test_one_event_and_a_list() -> None:
    """The option takes one event or a list; data may be left out, wire-only fields are ignored."""
    (event,) = read_events('{"name": "a", "data": {"x": 1}, "id": "i", "ts": 5, "v": "1"}')
    assert (event.name, event.data, event.id, event.ts) == ("a", {"x": 1}, "i", 5)
    names = [each.name for each in read_events('[{"name": "a"}, {"name": "b", "data": null}]')]
    assert names == ["a", "b"]


def test_a_file_and_standard_input(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``@FILE`` reads a file (a byte order mark is fine), ``@-`` standard input."""
    path = tmp_path / "event.json"
    path.write_text('﻿{"name": "a"}', "utf-8")
    assert read_events(f"@{path}")[0].name == "a"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"name": "b"}'))
    assert read_events("@-")[0].name == "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "--event is not JSON: Expecting property name"),
        (
            '{"name": "a", "data": ' + '{"a":' * 250 + "1" + "}" * 251,
            "nests deeper than 200 levels",
        ),
        ('{"name": "a", "data": ' + "[" * 100_000, "nests deeper than 200 levels"),
        ('{"name": "a", "ts": ' + "9" * 5_000 + "}", "a number too long to read"),
        ("[]", "empty list"),
        ("3", "--event is not an event"),
        ('[{"name": "a"}, 3]', "--event[1] is not an event"),
        ('{"data": {}}', "'name' must be a non-empty string"),
        ('{"name": ""}', "'name' must be a non-empty string"),
        ('{"name": 3}', "'name' must be a non-empty string"),
        ('{"name": "a", "data": ["s3cret"]}', "'data' must be an object"),
        ('{"name": "a", "payload": "s3cret"}', "unknown field 'payload'"),
        ('{"name": "a", "id": 7}', "'id' must be a string"),
        ('{"name": "a", "ts": "s3cret"}', "'ts' must be an integer"),
        ('{"name": "a", "ts": true}', "'ts' must be an integer"),
    ],
)
def test_what_is_no_event_is_explained(text: str, expected: str) -> None:
    """Each mistake has a one-line message that does not repeat a value."""
    with pytest.raises(CliError) as caught:
        read_events(text)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert "s3cret" not in message


def test_a_file_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    """Missing, unreadable and binary files are told apart."""
    with pytest.raises(CliError, match=r"there is no file .*none\.json"):
        read_events(f"@{tmp_path / 'none.json'}")
    with pytest.raises(CliError, match="cannot read"):
        read_events(f"@{tmp_path}")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CliError, match="is not UTF-8"):
        read_events(f"@{tmp_path / 'binary'}")


@pytest.mark.parametrize("option", ["order.json", "/tmp/order", "order"])
def test_a_file_without_its_sign_is_explained(option: str) -> None:
    """What looks like no JSON at all is told how to name a file."""
    with pytest.raises(CliError, match="a file is given as --event @FILE"):
        read_events(option)
    with pytest.raises(CliError) as caught:
        read_events("{order}")
    assert "@FILE" not in str(caught.value)
