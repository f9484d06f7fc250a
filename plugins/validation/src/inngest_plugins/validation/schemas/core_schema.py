"""Finds user code, secrets and lossy fields in a Pydantic core schema.

Core schemas are the dicts from which pydantic-core builds a validator. Their layout is public
(`pydantic_core.core_schema`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

Path = tuple["str | int", ...]

# Code of these packages only reads what it validates.
_TRUSTED = frozenset(
    {"builtins", "collections", "datetime", "decimal", "enum", "fractions", "ipaddress", "pathlib",
     "pydantic", "pydantic_core", "re", "typing", "uuid", "zoneinfo"}
)  # fmt: skip
# Never called, or not while validating.
_NOT_RUN = frozenset({"cls", "config", "default", "metadata", "serialization"})


def any_strict(core: object) -> bool:
    """Whether any part of a core schema is strict."""
    return any(node.get("strict") is True for node in _nodes(core, frozenset()))


def runs_user_code(core: object) -> bool:
    """Whether validating runs code of the user, which may change the value."""
    for node in _nodes(core, _NOT_RUN):
        if node.get("custom_init") or node.get("post_init"):
            return True
        if any(_is_user_code(each) for key, each in node.items() if key not in _NOT_RUN):
            return True
    return False


def _is_user_code(value: object) -> bool:
    if not callable(value):
        return False
    module = getattr(value, "__module__", None)
    return str(module).partition(".")[0] not in _TRUSTED


def _nodes(core: object, left_out: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """Every dict of a core schema, but for those below the keys left out."""
    seen: set[int] = set()
    todo: list[object] = [core]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping):
            members = cast("Mapping[str, Any]", node)
            yield members
            todo.extend(each for key, each in members.items() if key not in left_out)
        elif isinstance(node, list | tuple):
            todo.extend(cast("Sequence[object]", node))


class LossyField(NamedTuple):
    """A field that the JSON form of a type cannot carry."""

    path: Path
    """Its place in the JSON form; `*` is any item or key."""

    reason: str


def secret_fields(core: object) -> tuple[Path, ...]:
    """The places of `SecretStr` and other secrets, whose JSON form hides them."""
    return tuple(dict.fromkeys(path for path, node in _places(core) if _is_secret(node)))


def lossy_fields(core: object) -> tuple[LossyField, ...]:
    """The fields whose value never survives being written as JSON and read again."""
    found: list[LossyField] = []
    for path, node in _places(core):
        reason = _reason(node, path) if "_config" in node else None
        if reason is not None:
            found.append(LossyField(path, reason))
    return tuple(dict.fromkeys(found))


def _reason(node: Mapping[str, Any], path: Path) -> str | None:
    config: Mapping[str, Any] = node["_config"]
    required = node.get("required", node["schema"].get("type") != "default")
    if node.get("serialization_exclude"):
        return "it is excluded from the JSON form (exclude=True) and required" if required else None
    name = node["_name"]
    read = _read_names(node, name, config)
    if read is None or path[-1] in read:
        return None
    names = " or ".join(sorted(read))
    return f"it is written under this name, and read from {names} only (serialization_alias)"


def _read_names(
    node: Mapping[str, Any], name: str, config: Mapping[str, Any]
) -> frozenset[str] | None:
    """The keys that a field is read from; None where the schema does not tell."""
    alias: Any = node.get("validation_alias")
    if alias is None:
        return frozenset({name})
    by_name = config.get("validate_by_name", config.get("populate_by_name", False))
    names = {name} if by_name else set[str]()
    if isinstance(alias, str):
        return frozenset({alias, *names})
    paths: list[Any] = alias if alias and isinstance(alias[0], list) else [alias]
    for each in paths:
        if len(each) != 1:
            return None
        names.add(str(each[0]))
    return frozenset(names)


def _is_secret(node: Mapping[str, Any]) -> bool:
    if node.get("type") == "is-instance":
        return callable(getattr(node.get("cls"), "get_secret_value", None))
    # `Secret[T]` is known by its serializer alone.
    serialization: Mapping[str, Any] = node.get("serialization") or {}
    function = serialization.get("function")
    name = str(getattr(function, "__qualname__", ""))
    return getattr(function, "__module__", "") == "pydantic.types" and "secret" in name.lower()


_WITH_FIELDS = frozenset({"model-fields", "typed-dict", "dataclass-args"})
_ITEMS = frozenset({"extras_schema", "items_schema", "keys_schema", "values_schema"})


def _places(core: object) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every node of a core schema with the place in the JSON form that it is for.

    Fields come with their name as `_name` and the configuration of their model as `_config`.
    """
    definitions = {
        str(node["ref"]): node
        for node in _nodes(core, _NOT_RUN)
        if isinstance(node.get("ref"), str)
    }
    seen: set[tuple[int, Path]] = set()
    entered: dict[tuple[str, Path], Path] = {}
    todo: list[_Place] = [((), core, {})]
    while todo:
        path, node, config = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend((path, each, config) for each in cast("Sequence[object]", node))
        if not isinstance(node, Mapping) or (id(node), path) in seen:
            continue
        seen.add((id(node), path))
        members = cast("Mapping[str, Any]", node)
        config = members.get("config") or config
        if members.get("type") == "definitions":
            todo.append((path, members["schema"], config))
        elif members.get("type") == "definition-ref":
            ref = str(members.get("schema_ref"))
            # A type is described once below each field of the root: it may hold itself.
            if ref in definitions and entered.setdefault((ref, path[:1]), path) == path:
                todo.append((path, definitions[ref], config))
        else:
            yield path, members
            for below, field in _fields(path, members, config):
                yield below, field
                todo.append((below, field["schema"], config))
            todo.extend(_below(path, members, config))


_Place = tuple[Path, object, Mapping[str, Any]]


def _fields(
    path: Path, node: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    if node.get("type") in _WITH_FIELDS:
        for name, field in _named_fields(node["fields"]):
            below = (*path, str(field.get("serialization_alias") or name))
            yield below, {**field, "_name": name, "_config": config}


def _below(path: Path, node: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[_Place]:
    left_out = {*_NOT_RUN, "fields"} if node.get("type") in _WITH_FIELDS else _NOT_RUN
    for key, each in node.items():
        if key not in left_out:
            yield (*path, "*") if key in _ITEMS else path, each, config


def _named_fields(fields: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(fields, Mapping):
        yield from cast("Mapping[str, Mapping[str, Any]]", fields).items()
        return
    for each in cast("Sequence[Mapping[str, Any]]", fields):
        if isinstance(each, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            yield str(each["name"]), each
