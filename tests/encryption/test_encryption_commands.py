"""The command line: keys and opened payloads, and nothing secret in errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.cli import main
from inngest_plugins.core import printable
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the program with a text on stdin; returns exit code, stdout and stderr."""

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_keys_new_prints_an_entry_that_can_be_used(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry alone is on stdout, the advice on stderr."""
    code, out, err = run("keys", "new", "--id", "2026-11")
    assert code == 0
    assert out.startswith("2026-11:")
    assert "rotate" in err
    assert out.strip() not in err
    monkeypatch.setenv("SHOP_KEYS", out)
    assert KeyRing.from_env("SHOP_KEYS").ids == ("2026-11",)
    for bad in ("not good", ""):
        code, out, err = run("keys", "new", "--id", bad)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_keys_check_lists_ids_and_warns_of_open_files(run: Any, tmp_path: Path) -> None:
    """Exit code 1 when others may read the file; secrets are never shown."""
    path = tmp_path / "keys"
    first, second = Key.generate("new"), Key.official("secret words", id="old")
    path.write_text(f"{first.to_text()}\n{second.to_text()}\n")
    path.chmod(0o600)
    code, out, err = run("keys", "check", "--file", str(path))
    assert code == 0, err
    assert out == "new  aes-256-gcm  encrypts\nold  official formats  decrypts\n"
    path.chmod(0o644)
    code, out, err = run("keys", "check", "--file", str(path))
    assert code == 1
    assert "chmod 600" in err


def test_keys_check_takes_a_lone_official_key(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An official passphrase is checked as the first key, without a list of keys."""
    monkeypatch.delenv("INNGEST_ENCRYPTION_KEYS", raising=False)
    monkeypatch.setenv("OFFICIAL", "secret words")
    code, out, _ = run("keys", "check", "--official-env", "OFFICIAL")
    assert code == 0
    assert out.endswith("official formats  encrypts\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--env", "NOT_SET_ANYWHERE"],
        ["--file", "/nonexistent/keys"],
        ["--env", "A", "--file", "b"],
        ["--official-env", "NOT_SET_ANYWHERE"],
    ],
)
@pytest.mark.parametrize("command", [["keys", "check"], ["decrypt"]])
def test_missing_keys_are_one_line_and_exit_2(
    run: Any, command: list[str], arguments: list[str]
) -> None:
    """Bad input is named without a traceback."""
    code, _, err = run(*command, *arguments, stdin="{}")
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_decrypt_opens_every_format_at_any_depth(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of each value, texts of errors included; plain JSON stays as it is."""
    key = Key.generate("k")
    own = EncryptionPlugin(key)
    official = EncryptionPlugin("words", strategy="libsodium")
    monkeypatch.setenv("INNGEST_ENCRYPTION_KEYS", key.to_text())
    monkeypatch.setenv("OFFICIAL", "words")
    twice = own.encrypt(own.encrypt("deep"))
    pasted = {
        "events": [{"data": {"card": own.encrypt("4242"), "other": official.encrypt([1])}}],
        "error": {"name": "ValueError", "message": json.dumps(own.encrypt("bad card"))},
        "twice": twice,
        "plain": {"__ENCRYPTED__": False, "text": "{", "n": 1, "none": None},
    }
    code, out, err = run("decrypt", "--official-env", "OFFICIAL", stdin=json.dumps(pasted))
    assert code == 0, err
    opened = json.loads(out)
    assert opened["events"] == [{"data": {"card": "4242", "other": [1]}}]
    assert opened["error"] == {"name": "ValueError", "message": "bad card"}
    assert own.decrypt(opened["twice"]) == "deep"
    assert opened["plain"] == pasted["plain"]


def test_decrypt_leaves_what_it_cannot_open_and_says_why(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, the JSON path and the key ids on stderr, the rest opened."""
    key = Key.generate("k")
    monkeypatch.setenv("KEYS", key.to_text())
    foreign = EncryptionPlugin(Key.generate("foreign")).encrypt("x")
    pasted = {"a": [foreign], "b": EncryptionPlugin(key).encrypt("open")}
    code, out, err = run("decrypt", "--env", "KEYS", stdin=json.dumps(pasted))
    assert code == 1
    assert json.loads(out) == {"a": [foreign], "b": "open"}
    assert "$.a[0]: " in err
    assert "'foreign'" in err


def test_decrypt_says_once_which_keys_are_missing(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ids and the options that give them, and no advice that is for workers."""
    monkeypatch.setenv("KEYS", Key.generate("mine").to_text())
    foreign = EncryptionPlugin(Key.generate("foreign"))
    official = EncryptionPlugin("words", strategy="libsodium")
    pasted: list[Any] = [foreign.encrypt(1), foreign.encrypt(2), json.dumps(foreign.encrypt("x"))]
    code, _, err = run("decrypt", "--env", "KEYS", stdin=json.dumps(pasted))
    *each, last = err.splitlines()
    assert code == 1
    assert [line.partition(":")[0] for line in each] == ["$[0]", "$[1]", "$[2]"]
    assert last.startswith("missing: 'foreign' (given: mine). ")
    assert "--env VARIABLE or --file FILE" in last
    assert "worker" not in err
    assert "try again" not in err
    pasted.append(official.encrypt("x"))
    _, _, err = run("decrypt", "--env", "KEYS", stdin=json.dumps(pasted))
    assert "missing: an official key, which has no id, 'foreign' (given" in err
    assert "--official-env VARIABLE" in err
    # A value that the right key refuses is damaged: no key is missing.
    damaged = EncryptionPlugin(KeyRing.from_env("KEYS")).encrypt(1)
    damaged["head"] += "x"
    code, _, err = run("decrypt", "--env", "KEYS", stdin=json.dumps(damaged))
    assert (code, err) == (1, "$: it does not authenticate (tried: mine)\n")


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        ("no json", "at line 1, column 1"),
        ('{"a": 1,\n "b" 2}', "at line 2, column 6"),
        ("[" * 200_000, "nests deeper than 200 levels"),
        ("9" * 5000, "a number too long to read"),
    ],
)
def test_decrypt_says_where_the_input_is_no_json(
    run: Any, monkeypatch: pytest.MonkeyPatch, stdin: str, told: str
) -> None:
    """One line with line and column, exit code 2."""
    monkeypatch.setenv("KEYS", Key.generate("k").to_text())
    code, out, err = run("decrypt", "--env", "KEYS", stdin=stdin)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_decrypt_reads_a_file(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A payload saved to a file, with a byte order mark, is opened like a pasted one."""
    key = Key.generate("k")
    monkeypatch.setenv("KEYS", key.to_text())
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(EncryptionPlugin(key).encrypt({"a": "é"})), "utf-8-sig")
    code, out, _ = run("decrypt", str(path), "--env", "KEYS")
    assert (code, json.loads(out)) == (0, {"a": "é"})
    code, _, err = run("decrypt", str(tmp_path / "none.json"), "--env", "KEYS")
    assert (code, "there is no file" in err) == (2, True)


def test_what_decrypt_opens_cannot_command_the_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control and bidirectional characters are shown escaped, and the output is still the JSON."""
    key = Key.generate("k")
    monkeypatch.setenv("KEYS", key.to_text())
    value = {"user\u202e": "\x1b]0;title\x07\x9b2J"}
    code, out, _ = run(
        "decrypt", "--env", "KEYS", stdin=json.dumps(EncryptionPlugin(key).encrypt(value))
    )
    assert (code, json.loads(out)) == (0, value)
    assert printable(out, lines=True) == out


def test_decrypt_reads_utf_8_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of another encoding are one line, exit code 2."""
    monkeypatch.setenv("KEYS", Key.generate("k").to_text())
    pasted = io.TextIOWrapper(io.BytesIO(b'"\xff"'), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", pasted)
    assert main(("decrypt", "--env", "KEYS")) == 2
    assert capsys.readouterr().err.endswith("standard input is not UTF-8 text\n")


@pytest.mark.parametrize("option", ["--env", "--official-env"])
def test_an_empty_variable_is_called_empty(
    run: Any, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """One that is set to nothing is not told as one that is not set."""
    monkeypatch.setenv("EMPTY", "")
    code, _, err = run("keys", "check", option, "EMPTY")
    assert code == 2
    assert "EMPTY is empty" in err
    monkeypatch.delenv("EMPTY")
    assert "EMPTY is not set" in run("keys", "check", option, "EMPTY")[2]


@pytest.mark.parametrize("option", ["--env", "--official-env"])
def test_a_key_in_the_place_of_its_variable_is_not_repeated(run: Any, option: str) -> None:
    """Standard error ends up in logs of CI."""
    entry = Key.generate("k").to_text()
    for given in (entry, "some official words"):
        code, out, err = run("keys", "check", option, given)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert given[2:10] not in err
        assert "a name, and not the keys themselves" in err
