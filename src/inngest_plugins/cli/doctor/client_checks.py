"""Checks a client for the doctor: its mode, its keys, and keys in files of the repository."""

from __future__ import annotations

import ast
import dataclasses
import os
import pathlib
import subprocess
import sys
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    import inngest

    from inngest_plugins.cli.apps.loading import App

Level = typing.Literal["error", "warning", "note"]

_SHORTEST_KEY: typing.Final = 8
_LARGEST_FILE: typing.Final = 1_000_000
_MOST_FILES: typing.Final = 20_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """What does not work (error), what is unsafe or pointless (warning), what is good to know."""

    level: Level
    where: str
    text: str


def mode_of(app: App) -> str:
    """The mode of a client and where it comes from."""
    mode = "production" if app.client.is_production else "development"
    if _says_its_mode(app):
        return f"{mode} mode (is_production is set)"
    if app.client.is_production:
        return f"{mode} mode (neither is_production nor INNGEST_DEV is set)"
    return f"{mode} mode (INNGEST_DEV is set)"


def client_findings(app: App) -> Iterator[Finding]:
    """What is wrong with the client."""
    if app.client.is_production:
        yield from _production_findings(app)
    yield from _keys_in_files(app)


def _production_findings(app: App) -> Iterator[Finding]:
    client = app.client
    unset = "" if _says_its_mode(app) else " because neither is_production nor INNGEST_DEV is set"
    if client.signing_key is None:
        yield Finding(
            "error",
            "client",
            f"it is in production mode{unset} and has no signing key: requests cannot be "
            "verified; set INNGEST_SIGNING_KEY, or INNGEST_DEV=1 on a development machine",
        )
    for variable, key in (
        ("INNGEST_SIGNING_KEY", client.signing_key),
        ("INNGEST_SIGNING_KEY_FALLBACK", client.signing_key_fallback),
    ):
        if key is not None and not key.strip():
            yield Finding(
                "error",
                "client",
                f"{variable} is empty, and an empty key is a key: anybody can sign requests with "
                "it; leave the variable out",
            )
    if client.event_key is None:
        yield Finding(
            "warning",
            "client",
            f"it is in production mode{unset} and has no event key: client.send and "
            "step.send_event will fail; set INNGEST_EVENT_KEY",
        )
    if unset and client.signing_key is not None:
        yield Finding(
            "note",
            "client",
            f"it is in production mode{unset}; pass is_production from your settings if this "
            "code also runs elsewhere",
        )


def _says_its_mode(app: App) -> bool:
    """Whether some module that holds the client makes one with ``is_production``."""
    return any(
        any(keyword.arg in ("is_production", None) for keyword in call.keywords)
        for source in _sources(app.client)
        for call in _client_calls(source)
    )


def _sources(client: inngest.Inngest) -> Iterator[str]:
    """The source of every module that holds the client."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and any(value is client for value in vars(module).values()):
            try:
                yield pathlib.Path(path).read_text("utf-8")
            except (OSError, ValueError):
                continue


def _client_calls(source: str) -> Iterator[ast.Call]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else None
            name = function.id if isinstance(function, ast.Name) else name
            if name == "Inngest":
                yield node


def _keys_in_files(app: App) -> Iterator[Finding]:
    keys = {
        "event key": (app.client.event_key, "send events", "INNGEST_EVENT_KEY"),
        "signing key": (app.client.signing_key, "sign requests", "INNGEST_SIGNING_KEY"),
    }
    wanted = {
        noun: key.encode()
        for noun, (key, _, _) in keys.items()
        if key is not None and len(key) >= _SHORTEST_KEY
    }
    for path, content in _files(app) if wanted else ():
        for noun, key in wanted.items():
            at = content.find(key)
            if at >= 0:
                line = content.count(b"\n", 0, at) + 1
                _, power, variable = keys[noun]
                yield Finding(
                    "warning",
                    "client",
                    f"its {noun} stands in {path}, line {line}: whoever can read the repository "
                    f"can {power}; set {variable} instead and replace the key",
                )


def _files(app: App) -> Iterator[tuple[str, bytes]]:
    """The text files of the app's repository, or the app's own files where there is none."""
    own = getattr(app.module, "__file__", None)
    if own is None:
        return
    folder = pathlib.Path(own).resolve().parent
    root = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)
    paths = _tracked(root) if root is not None else None
    if paths is None:
        paths = sorted(folder.glob("*.py"))
    for path in paths[:_MOST_FILES]:
        try:
            if path.stat().st_size > _LARGEST_FILE:
                continue
            content = path.read_bytes()
        except OSError:
            continue
        yield os.path.relpath(path), content


def _tracked(root: pathlib.Path) -> list[pathlib.Path] | None:
    """The files that git tracks; None when git gives no answer."""
    command = ["git", "-C", str(root), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return [root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
