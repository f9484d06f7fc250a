"""The events of an app as an AsyncAPI 3 document (https://www.asyncapi.com/docs/reference)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import inngest

from inngest_plugins.core import ArgumentError
from inngest_plugins.validation.events.event_type import EventType
from inngest_plugins.validation.events.payloads import ENGINE_PREFIX, is_pattern, matches_name
from inngest_plugins.validation.events.registry import SchemaRegistry, event_triggers

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A Multi Format Schema Object: the payloads are JSON Schemas, not AsyncAPI's dialect of them.
_FORMAT = "application/schema+json;version=draft-2020-12"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def asyncapi_document(
    app_id: str,
    version: str,
    registries: Sequence[SchemaRegistry],
    functions: Iterable[inngest.Function[Any]],
) -> dict[str, Any]:
    """Describe every event: its JSON Schema, and the functions it triggers.

    Events that only a trigger names are there too, without a payload schema.

    Args:
        app_id: The app, as the document's title.
        version: The app's version.
        registries: Where the schemas are.
        functions: Where the triggers are.
    """
    events: dict[str, EventType[Any] | None] = {}
    for registry in registries:
        for event in registry:
            events.setdefault(event.name, event)
    triggers = [(function, name) for function in functions for name in event_triggers(function)]
    for _, name in triggers:
        if not name.startswith(ENGINE_PREFIX) and not _known(name, events):
            events[name] = None
    keys = _keys(events)
    operations: dict[str, Any] = {}
    for function, trigger in triggers:
        for name, key in keys.items():
            if _may_start(trigger, name):
                operations[f"{_UNSAFE.sub('_', function.id)}.{key}"] = _operation(function, key)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": app_id, "version": version},
        "defaultContentType": "application/json",
        "channels": {key: _channel(name, key) for name, key in keys.items()},
        "operations": operations,
        "components": {
            "messages": {key: _message(name, events[name]) for name, key in keys.items()}
        },
    }


def _known(trigger: str, events: Iterable[str]) -> bool:
    return any(_may_start(trigger, name) for name in events)


def _may_start(trigger: str, event: str) -> bool:
    """Whether an event, or some event of a pattern, can set off a trigger, maybe a pattern too."""
    return (
        trigger == event
        or matches_name(trigger, event)
        or (is_pattern(event) and not is_pattern(trigger) and matches_name(event, trigger))
    )


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Names that AsyncAPI allows as keys, one for each event."""
    keys: dict[str, str] = {}
    for name in names:
        base = key = _UNSAFE.sub("_", name)
        number = 2
        while key in keys.values():
            key = f"{base}-{number}"
            number += 1
        keys[name] = key
    return keys


def _channel(name: str, key: str) -> dict[str, Any]:
    return {
        "address": name,
        "messages": {key: {"$ref": f"#/components/messages/{key}"}},
    }


def _operation(function: inngest.Function[Any], key: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        "title": function.name,
        "summary": f"Triggers the function {function.id}.",
        "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        "x-inngest-function": function.id,
    }


def _message(name: str, event: EventType[Any] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"name": name, "contentType": "application/json"}
    if event is not None:
        message["payload"] = {"schemaFormat": _FORMAT, "schema": _payload(event)}
    return message


def _payload(event: EventType[Any]) -> dict[str, Any] | bool:
    schema = event.compiled.json_schema()
    if isinstance(schema, bool):
        return schema
    # With an $id the schema is a resource of its own, in which "#/$defs/..." means its own $defs.
    identity = {"$schema": _DIALECT, "$id": f"urn:inngest:event:{quote(event.name, safe='')}"}
    return {**identity, **schema}


def events_of(document: Any) -> dict[str, Any]:
    """The payload schemas of a document by event name; None for an event without one.

    Raises:
        ArgumentError: It is not an AsyncAPI 3 document.
    """
    if not isinstance(document, dict) or not str(document.get("asyncapi", "")).startswith("3."):
        msg = "it is no AsyncAPI 3 document"
        raise ArgumentError(msg)
    found: dict[str, Any] = {}
    components: Any = document.get("components") or {}
    messages: Any = components.get("messages") if isinstance(components, dict) else None
    for key, message in (messages or {}).items():
        payload: Any = message.get("payload")
        if isinstance(payload, dict) and "schemaFormat" in payload:
            payload = payload.get("schema")
        found[str(message.get("name", key))] = payload
    return found
