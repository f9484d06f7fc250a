"""The commands `inngest-plugins keys` and `inngest-plugins decrypt`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Annotated, Any

import typer

from inngest_plugins.cli import CliError, read_json
from inngest_plugins.core import printable

from .errors import ConfigurationError, DecryptionError
from .formats.plaintext import path_step
from .keys.key import Key
from .keys.keyring import KeyRing, named_variable
from .plugin import EncryptionPlugin

DEFAULT_VARIABLE = "INNGEST_ENCRYPTION_KEYS"

keys = typer.Typer(help="Encryption keys: make one, check a list.", no_args_is_help=True)

Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        metavar="VARIABLE",
        help=f"Environment variable with keys; default {DEFAULT_VARIABLE}.",
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="File with keys, instead.")
]
Official = Annotated[
    str | None,
    typer.Option(
        "--official-env",
        metavar="VARIABLE",
        help="Environment variable with an official key, as it is.",
    ),
]


@keys.command()
def new(
    key_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The key's id, such as 2026-11; default random."),
    ] = None,
) -> None:
    """Make a random key and print its entry. The entry is the secret: keep it like one."""
    try:
        key = Key.generate(key_id)
    except ConfigurationError as error:
        raise CliError(str(error)) from error
    typer.echo(key.to_text())
    typer.echo(
        "To rotate: deploy it behind the current key first, then in front of it, and drop the old "
        "one when no run is left that holds data under it.",
        err=True,
    )


@keys.command()
def check(env: Env = None, file: File = None, official_env: Official = None) -> None:
    """Check a list of keys; shows ids, never secrets.

    Exit code: 0 when the keys can be used, 1 when something is unsafe, 2 for bad input.
    """
    ring = _ring(env, file, official_env)
    for position, key in enumerate(ring):
        kind = "official formats" if key.is_official else "aes-256-gcm"
        typer.echo(f"{key.id}  {kind}  {'encrypts' if position == 0 else 'decrypts'}")
    plugin = EncryptionPlugin(
        ring, strategy="libsodium" if ring.primary.is_official else "aes-256-gcm"
    )
    if plugin.decrypt(plugin.encrypt("probe")) != "probe":
        raise AssertionError("a key does not open what it wrote")
    unsafe = _unsafe(file)
    if unsafe is not None:
        typer.echo(unsafe, err=True)
        raise typer.Exit(1)


def decrypt(
    source: Annotated[
        str, typer.Argument(metavar="[FILE]", help="File with JSON; - (default): standard input.")
    ] = "-",
    env: Env = None,
    file: File = None,
    official_env: Official = None,
) -> None:
    """Open every encrypted value of some JSON, at any depth, and print the JSON.

    For a payload from a dashboard, pasted or saved to a file. Of each value one layer is opened.

    Exit code: 0 when every value was opened, 1 when one could not be: it stays encrypted, and the
    reason goes to standard error, with the ids of the keys that are missing; 2 for bad input.
    """
    ring = _ring(env, file, official_env)
    value = read_json(source)
    plugin = EncryptionPlugin(ring, decrypt_only=True)
    failures: list[tuple[str, DecryptionError]] = []
    opened = _opened(value, plugin, failures, "$")
    typer.echo(printable(json.dumps(opened, indent=2, ensure_ascii=False), lines=True))
    for path, error in failures:
        typer.echo(printable(f"{path}: {error.reason or error}"), err=True)
    advice = _missing([error.missing_key for _, error in failures], ring)
    if advice is not None:
        typer.echo(advice, err=True)
    if failures:
        raise typer.Exit(1)


def _missing(key_ids: list[str | None], ring: KeyRing) -> str | None:
    """Say which keys to give and how, or None when no failure was for want of a key."""
    found = sorted({key_id for key_id in key_ids if key_id is not None})
    if not found:
        return None
    named = [repr(key_id) if key_id else "an official key, which has no id" for key_id in found]
    return (
        f"missing: {', '.join(named)} (given: {', '.join(ring.ids)}). Give the list that has it by "
        f"--env VARIABLE or --file FILE (default: the variable {DEFAULT_VARIABLE}), an official "
        "key as it is by --official-env VARIABLE"
    )


def _opened(
    value: Any, plugin: EncryptionPlugin, failures: list[tuple[str, DecryptionError]], path: str
) -> Any:
    try:
        if isinstance(value, str):
            return plugin.decrypt_text(value)
        opened = plugin.decrypt(value)
    except DecryptionError as error:
        failures.append((path, error))
        return value
    if opened is not value:
        return opened
    if isinstance(value, dict):
        return {
            key: _opened(held, plugin, failures, path + path_step(key))
            for key, held in value.items()
        }
    if isinstance(value, list):
        return [
            _opened(held, plugin, failures, path + path_step(index))
            for index, held in enumerate(value)
        ]
    return value


def _ring(env: str | None, file: Path | None, official_env: str | None) -> KeyRing:
    if env is not None and file is not None:
        raise CliError("give --env or --file, not both")
    passphrase = os.environ.get(official_env, "") if official_env else ""
    try:
        official = [Key.official(passphrase)] if passphrase else []
        if official_env and not passphrase:
            state = "not set" if official_env not in os.environ else "empty"
            raise CliError(f"{named_variable(official_env)} is {state}")
        if file is not None:
            return KeyRing(*KeyRing.from_file(file), *official)
        name = env or DEFAULT_VARIABLE
        if env is None and official and not os.environ.get(name):
            return KeyRing(*official)
        return KeyRing(*KeyRing.from_env(name), *official)
    except ConfigurationError as error:
        raise CliError(str(error)) from error


def _unsafe(file: Path | None) -> str | None:
    if file is None or os.name != "posix":
        return None
    mode = file.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"others than the owner have rights on {file}: chmod 600 it"
    return None
