"""The program itself: its commands, what is missing, and how failures look."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import subprocess
import sys
import typing

import pytest
import typer

from inngest_plugins.cli import CliError, _main, main

if typing.TYPE_CHECKING:
    from .conftest import Program

EntryPoint = importlib.metadata.EntryPoint


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> typing.Callable[..., None]:
    """Install these commands, by name and value, in the place of the real ones."""

    def install(**values: str) -> None:
        found = [EntryPoint(name, value, _main.GROUP) for name, value in values.items()]

        def entry_points(*, group: str) -> list[EntryPoint]:
            assert group == "inngest_plugins.commands"
            return found

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    return install


def test_help_lists_the_installed_commands(program: Program) -> None:
    """--help lists every command with its first line; no argument at all shows the same."""
    ended = program("--help")
    assert ended.code == 0
    assert "run " in ended.out
    assert "Run an app's functions on this machine" in ended.out
    assert "doctor " in ended.out
    assert "--debug" in ended.out
    assert program("run", "--help").code == 0
    bare = program()
    assert "Commands:" in bare.out + bare.err


def test_version(program: Program) -> None:
    """--version prints the version of the distribution."""
    version = importlib.metadata.version("inngest-plugins")
    assert program("--version").out == f"inngest-plugins {version}\n"


def test_unknown_commands_and_options_exit_with_two(program: Program, app: str) -> None:
    """Usage errors exit with 2 and say what is wrong."""
    unknown = program("rum")
    assert unknown.code == 2
    assert "No such command" in unknown.err
    option = program("run", app, "--no-such-option")
    assert option.code == 2
    assert "--no-such-option" in option.err
    assert program("run", app, "--timeout", "-1").code == 2


def test_without_typer_the_program_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When typer is missing main() answers with the pip command instead of an ImportError."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == "typer" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert main(["run"]) == 2
    error = capsys.readouterr().err
    assert error == (
        'inngest-plugins: this program needs typer: pip install "inngest-plugins[cli]"\n'
    )


def test_the_package_can_be_imported_without_typer_and_rich() -> None:
    """``from inngest_plugins.cli import load_app, main`` needs neither typer nor rich."""
    code = (
        "import sys; sys.modules['typer'] = sys.modules['rich'] = None\n"
        "from inngest_plugins.cli import load_app, main\n"
        "sys.exit(main(['run']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 2
    assert "pip install" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("value", "extra"),
    [
        ("inngest_plugins.encryption.nothing_here:keys", "encryption"),
        ("inngest_plugins.cli.nothing_here:run", "local"),
    ],
)
def test_a_missing_extra_is_one_line(
    program: Program, commands: typing.Callable[..., None], value: str, extra: str
) -> None:
    """A command that cannot be imported names the pip command, in use and in the list."""
    commands(keys=value)
    ended = program("keys", "new", "--bits", "256")
    assert ended.code == 2
    assert f'pip install "inngest-plugins[{extra}]"' in ended.err
    assert ended.err.count("\n") == 1
    assert f'(not installed) pip install "inngest-plugins[{extra}]"' in program("--help").out


def test_a_foreign_command_that_cannot_be_imported(
    program: Program, commands: typing.Callable[..., None]
) -> None:
    """A third party's command names what is missing, without a pip command that we cannot know."""
    commands(foreign="no_such_package.commands:app")
    ended = program("foreign")
    assert ended.code == 2
    assert "No module named 'no_such_package'" in ended.err
    assert "pip install" not in ended.err


def test_other_commands_are_not_imported(
    program: Program, commands: typing.Callable[..., None], app: str
) -> None:
    """Running one command imports no other: a broken neighbour does no harm."""
    commands(run="inngest_plugins.cli.run_command:run", broken="json:no_such_name")
    assert program("run", app, "--event", '{"name": "demo/told"}').code == 0


def test_a_typer_app_is_a_command_with_sub_commands(
    program: Program, commands: typing.Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry point may be a typer app or a function; anything else is refused by name."""
    group = typer.Typer()

    @group.command()
    def new() -> None:
        typer.echo("a new key")

    @group.command()
    def old() -> None:
        raise CliError("no old key", exit_code=1)

    monkeypatch.setattr(sys.modules[__name__], "GROUP_APP", group, raising=False)
    commands(keys=f"{__name__}:GROUP_APP", odd="sys:path")
    assert program("keys", "new").out == "a new key\n"
    refused = program("keys", "old")
    assert (refused.code, refused.err) == (1, "inngest-plugins: no old key\n")
    odd = program("odd")
    assert odd.code == 2
    assert "the installed command 'odd' is a list" in odd.err


def explode() -> None:
    """Fail in a way nobody foresaw."""
    raise RuntimeError("first line\nsecond line")


def stop() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def leave() -> None:
    """Exit with a message, as scripts do."""
    sys.exit("gone")


def test_unforeseen_failures_are_one_line(
    program: Program, commands: typing.Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash is one line with its class, the traceback comes with --debug; ^C exits with 130."""
    commands(**{name: f"{__name__}:{name}" for name in ("explode", "stop", "leave")})
    ended = program("explode")
    assert (ended.code, ended.err) == (
        2,
        "inngest-plugins: RuntimeError: first line second line (--debug shows where)\n",
    )
    debugged = program("explode", "--debug")
    assert debugged.code == 2
    assert "Traceback (most recent call last)" in debugged.err
    assert program("stop").code == 130
    assert program("leave").code == 1


def write_much() -> None:
    """Write more than a pipe holds, then end with a verdict."""
    for _ in range(100_000):
        typer.echo("a line that nobody reads")
    raise typer.Exit(VERDICT)


VERDICT = 0
FULL = pathlib.Path("/dev/full")


@pytest.mark.parametrize("verdict", [0, 1])
def test_a_closed_pipe_does_not_change_the_verdict(
    commands: typing.Callable[..., None], monkeypatch: pytest.MonkeyPatch, verdict: int
) -> None:
    """When the reader of the output has gone the command goes on, silently, to its own end."""
    monkeypatch.setattr(sys.modules[__name__], "VERDICT", verdict)
    commands(write=f"{__name__}:write_much")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["write"]) == verdict
    assert sys.stdout is stream


@pytest.mark.skipif(not FULL.exists(), reason="Linux has it")
@pytest.mark.parametrize("command", ["write", "--version"])
def test_a_full_disk_is_one_line(
    commands: typing.Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """Output that cannot be written is one line and exit code 2, also when little was written."""
    commands(write=f"{__name__}:write_much")
    with FULL.open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main([command]) == 2
    error = capsys.readouterr().err
    assert error == ("inngest-plugins: cannot write to standard output: No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="Linux has it")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", ["--version", "doctor {app} --json", "run {app} {event} --json"]
)
def test_a_full_disk_is_one_line_of_the_program(
    app: str, tmp_path: pathlib.Path, arguments: str, unbuffered: str
) -> None:
    """So it is for the program itself, with and without Python's own buffer."""
    event = tmp_path / "event.json"
    event.write_text('{"name": "demo/told"}')
    words = arguments.format(app=app, event=f"--event @{event}")
    ended = subprocess.run(
        f"{sys.executable} -m inngest_plugins.cli {words} > /dev/full",
        shell=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 2
    *before, last = ended.stderr.splitlines()
    assert last == "inngest-plugins: cannot write to standard output: No space left on device"
    assert not [line for line in before if "cannot write" in line or "Traceback" in line]


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_closed_streams_are_no_failure(redirected: str) -> None:
    """A program started with closed streams, or a full disk for its messages, does its work."""
    command = f"{sys.executable} -m inngest_plugins.cli --version {redirected}"
    ended = subprocess.run(command, shell=True, capture_output=True, timeout=200, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def warn() -> None:
    """Log and fail with text that a terminal would obey."""
    logging.getLogger("somebody's").warning("\x1b]0;title\x07\nsecond")
    raise RuntimeError("\x1b[2J\u202e")


def test_messages_cannot_command_the_terminal(
    program: Program, commands: typing.Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control and bidirectional characters of logs and errors are shown escaped."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    commands(warn=f"{__name__}:warn")
    ended = program("warn")
    assert ended.err.splitlines() == [
        "\\u001b]0;title\\u0007",
        "second",
        "inngest-plugins: RuntimeError: \\u001b[2J\\u202e (--debug shows where)",
    ]
    traced = program("warn", "--debug").err
    assert "Traceback" in traced
    assert not {"\x1b", "\u202e", "\x07"}.intersection(traced)


def test_the_shell_completes_commands_and_options(app: str) -> None:
    """With the shell's completion installed, commands and their options are offered."""

    def completed(words: str) -> str:
        environment = {
            **os.environ,
            "_INNGEST_PLUGINS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        command = [sys.executable, "-m", "inngest_plugins.cli"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=True
        ).stdout

    assert "doctor" in completed("inngest-plugins do").split()
    assert "--real-time" in completed("inngest-plugins run --re").split()


def test_the_package_is_a_program(app: str) -> None:
    """``python -m inngest_plugins.cli`` is the same program."""
    ended = subprocess.run(
        [sys.executable, "-m", "inngest_plugins.cli", "doctor", "missing.py"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "inngest-plugins: there is no file missing.py\n"
