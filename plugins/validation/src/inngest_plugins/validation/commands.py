"""The command `inngest-plugins schemas`: an app's events as a catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import inngest
import typer
import yaml

from inngest_plugins.cli import CliError, load_app, read_json, read_text
from inngest_plugins.core import PluginsError, Stack, printable

from .catalogue.asyncapi import asyncapi_document, events_of
from .catalogue.compatibility import compare_catalogues
from .events.payloads import ENGINE_PREFIX
from .events.registry import SchemaRegistry
from .plugin import ValidationPlugin
from .schemas.schema import ValidationFailed

schemas = typer.Typer(
    help="Event schemas: export them, compare two exports, check an event.",
    no_args_is_help=True,
)

App = Annotated[str, typer.Argument(help="The app: module:client, or a path to a .py file.")]


@schemas.command()
def export(
    app: App,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write to this file; default: stdout."),
    ] = None,
    form: Annotated[
        Literal["json", "yaml"],
        typer.Option("--format", metavar="json|yaml", help="How to write it."),
    ] = "json",
) -> None:
    """Write an AsyncAPI 3 document: every event, its JSON Schema, and who triggers on it."""
    loaded = load_app(app)
    registries = _registries(loaded.client, loaded.functions)
    # AsyncAPI requires a version, and the client does not show the one it has.
    document = asyncapi_document(loaded.client.app_id, "1.0.0", registries, loaded.functions)
    if form == "yaml":
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    else:
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {out}: {error.strerror}"
        raise CliError(msg) from error
    count = len(document["channels"])
    typer.echo(f"{count} event{'s' * (count != 1)} written to {out}")


@schemas.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The earlier export.")],
    new: Annotated[Path, typer.Argument(help="The later export.")],
    strict: Annotated[  # noqa: FBT002 - typer's way of an option
        bool, typer.Option("--strict", help="Count risks for consumers as breaking.")
    ] = False,
) -> None:
    """Show which changes break producers or consumers.

    Exit code: 0 when none does, 1 when one does, 2 for bad input.
    """
    changes = compare_catalogues(_catalogue(old), _catalogue(new))
    for change in changes:
        typer.echo(printable(str(change), lines=True))
    breaking = sum(
        change.breaks or (strict and change.effect == "risks consumers") for change in changes
    )
    typer.echo(f"{len(changes)} changes, {breaking} of them breaking")
    if breaking:
        raise typer.Exit(1)


@schemas.command()
def check(
    app: App,
    event: Annotated[str, typer.Argument(help="A file with one event or a list; - for stdin.")],
) -> None:
    """Check events by the app's schemas.

    Exit code: 0 when all are valid, 1 when one breaks its schema or has none, 2 for bad input.
    """
    loaded = load_app(app)
    registries = _registries(loaded.client, loaded.functions)
    bad = 0
    for each in _events(event):
        if each.name.startswith(ENGINE_PREFIX):
            typer.echo(f"{printable(each.name)}: not checked (the engine's own)")
            continue
        registry = next((found for found in registries if each.name in found), None)
        if registry is None:
            bad += 1
            typer.echo(f"{printable(each.name)}: no schema{_hint(each.name, registries)}")
            continue
        try:
            registry.validate(each)
        except ValidationFailed as failure:
            bad += 1
            typer.echo(printable(str(failure), lines=True))
        else:
            typer.echo(f"{printable(each.name)}: valid")
    if bad:
        raise typer.Exit(1)


def _hint(name: str, registries: Iterable[SchemaRegistry]) -> str:
    known = [event_type.name for registry in registries for event_type in registry]
    close = get_close_matches(name, known, n=1)
    return f"; is it {close[0]}?" if close else ""


def _registries(
    client: inngest.Inngest, functions: tuple[inngest.Function[Any], ...]
) -> list[SchemaRegistry]:
    try:
        stacks = [Stack.of(client), *(Stack.of(client, function) for function in functions)]
    except PluginsError as error:
        msg = f"the app's plugins cannot be composed: {error}"
        raise CliError(msg) from error
    found: list[SchemaRegistry] = []
    for stack in stacks:
        for plugin in stack.plugins:
            if isinstance(plugin, ValidationPlugin) and plugin.registry not in found:
                found.append(plugin.registry)
    if not found:
        msg = "the app uses no ValidationPlugin: add one to middleware=[...]"
        raise CliError(msg)
    return found


def _catalogue(path: Path) -> Mapping[str, Any]:
    document = _read(str(path))
    try:
        return events_of(document)
    except (ValueError, AttributeError) as error:
        msg = f"{path}: {error}: write one with `inngest-plugins schemas export`"
        raise CliError(msg) from error


def _events(source: str) -> list[inngest.Event]:
    document: Any = _read(source)
    found: list[inngest.Event] = []
    items: list[Any] = document if isinstance(document, list) else [document]
    if not items:
        msg = f"{source} is an empty list: give at least one event"
        raise CliError(msg)
    for fields in items:
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            msg = f'{source} holds no event: that is {{"name": ..., "data": {{...}}}}'
            raise CliError(msg)
        data: Any = fields.get("data") or {}
        if not isinstance(data, dict):
            msg = f"{source}: the data of event {fields['name']} is no object"
            raise CliError(msg)
        found.append(inngest.Event(name=str(fields["name"]), data=cast("Any", data)))
    return found


def _read(source: str) -> object:
    if not source.endswith((".yaml", ".yml")):
        return read_json(source)
    try:
        return yaml.safe_load(read_text(source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        msg = f"{source} is not YAML: there is an error{place}"
        raise CliError(msg) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        msg = f"{source} is not YAML that can be read"
        raise CliError(msg) from error
