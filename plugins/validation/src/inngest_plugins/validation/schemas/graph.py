"""Reads a JSON Schema as a graph and finds what is wrong or dangerous in it before it is used.

A schema is read as a graph: its subschemas, and the keywords that lead from one to another. From
that follow the references that lead nowhere, schemas that would never stop evaluating, whether
the schema recurses (a payload then decides how deep evaluation goes), and the names it declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import referencing
import referencing.exceptions
import referencing.jsonschema
from jsonschema_specifications import REGISTRY as META_SCHEMAS  # type: ignore[import-untyped]
from referencing import Registry, Specification

from .schema import SchemaError, pointer_to

Schema = dict[str, Any] | bool

# Applicators by what they apply their subschemas to (draft 2020-12 core, sections 10 and 11, and
# the older names of drafts 4 to 2019-09). "In place" is the same value; the rest goes one deeper.
_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_BELOW = (
    "additionalItems", "additionalProperties", "contains", "items", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_BELOW_LISTS = ("items", "prefixItems")
_BELOW_MAPS = ("properties", "patternProperties")
_CONTAINED_MAPS = ("$defs", "definitions")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OBJECT_KEYWORDS = frozenset({"properties", "patternProperties", "additionalProperties"})
_ARRAY_KEYWORDS = frozenset({"items", "prefixItems", "additionalItems"})

Path = tuple[str | int, ...]


@dataclass(eq=False)
class _Node:
    contents: Mapping[str, Any]
    path: Path
    document: str
    in_place: list[_Node] = field(default_factory=list["_Node"])
    below: list[_Node] = field(default_factory=list["_Node"])
    unions: list[list[_Node]] = field(default_factory=list[list["_Node"]])


class SchemaGraph:
    """A schema document with everything it refers to.

    Args:
        contents: The schema.
        specification: Its dialect.
        registry: The other documents it may refer to. Nothing else is ever read.
        base_uri: The address of the document among them; "" for a schema on its own.

    Raises:
        SchemaError: A reference leads nowhere, or evaluation would never end.
    """

    def __init__(
        self,
        contents: Schema,
        *,
        specification: Specification[Any] = referencing.jsonschema.DRAFT202012,
        registry: Registry[Any] = META_SCHEMAS,
        base_uri: str = "",
    ) -> None:
        self._specification = specification
        self._nodes: dict[int, _Node] = {}
        self.dynamic = False
        """Whether it uses $dynamicRef or $recursiveRef, whose target depends on the way there."""
        resource = specification.create_resource(cast("Any", contents))
        uri = resource.id() or base_uri
        resolver = registry.with_resource(uri, resource).resolver(uri)
        self._todo: list[tuple[_Node, Any]] = []
        root = self._node(contents, (), uri, resolver)
        while self._todo:
            node, scope = self._todo.pop()
            self._connect(node, scope)
        self._refuse_endless()
        self.recursive = root is not None and self._has_cycle()

    def _node(self, contents: object, path: Path, document: str, resolver: Any) -> _Node | None:
        if not isinstance(contents, Mapping):
            return None
        schema = cast("Mapping[str, Any]", contents)
        known = self._nodes.get(id(schema))
        if known is not None:
            return known
        node = self._nodes[id(schema)] = _Node(schema, path, document)
        resource = self._specification.create_resource(cast("Any", schema))
        self._todo.append((node, resolver.in_subresource(resource)))
        return node

    def _connect(self, node: _Node, resolver: Any) -> None:
        for path, contents, in_place in _children(node.contents):
            child = self._node(contents, node.path + path, node.document, resolver)
            if child is not None and in_place is not None:
                (node.in_place if in_place else node.below).append(child)
        for keyword in ("anyOf", "oneOf"):
            members = node.contents.get(keyword)
            if isinstance(members, list) and "discriminator" not in node.contents:
                found = [self._nodes.get(id(each)) for each in cast("list[object]", members)]
                node.unions.append([each for each in found if each is not None])
        for keyword in _REFERENCES:
            reference = node.contents.get(keyword)
            if isinstance(reference, str):
                self.dynamic = self.dynamic or keyword != "$ref"
                target = self._target(node, keyword, reference, resolver)
                if target is not None:
                    node.in_place.append(target)

    def _target(self, node: _Node, keyword: str, reference: str, resolver: Any) -> _Node | None:
        try:
            resolved = resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError) as error:
            msg = (
                f"at {pointer_to((*node.path, keyword))} in {node.document or 'the schema'}: "
                f"{reference!r} leads nowhere ({type(error).__name__}). References are resolved "
                "among the schemas given, and never fetched from the network or the file system"
            )
            raise SchemaError(msg) from None
        # The place of the target is read from the reference: an anchor has only its name.
        document, _, fragment = reference.partition("#")
        path = tuple(fragment.split("/")[1:]) if fragment.startswith("/") else ()
        return self._node(resolved.contents, path, document or node.document, resolved.resolver)

    def _refuse_endless(self) -> None:
        for component in _components(self._nodes.values(), lambda node: node.in_place):
            first = component[0]
            msg = (
                f"at {pointer_to(first.path) or 'the root'} in {first.document or 'the schema'}: "
                "the schema applies itself to the same value, evaluation would never end"
            )
            raise SchemaError(msg)

    def _has_cycle(self) -> bool:
        return next(_components(self._nodes.values(), _successors), None) is not None

    def names(self) -> frozenset[str]:
        """The property names that the schema mentions."""
        found: set[str] = set()
        for node in self._nodes.values():
            for keyword in ("properties", "dependentRequired", "dependentSchemas", "dependencies"):
                found.update(_keys(node.contents.get(keyword)))
            found.update(_texts(node.contents.get("required")))
            for names in _values(node.contents.get("dependentRequired")):
                found.update(_texts(names))
        return frozenset(found)

    def patterns(self) -> Iterator[tuple[str, str]]:
        """Every regular expression in the schema, with its place."""
        for node in self._nodes.values():
            pattern = node.contents.get("pattern")
            if isinstance(pattern, str):
                yield pattern, _place(node, "pattern")
            for key in _keys(node.contents.get("patternProperties")):
                yield key, _place(node, "patternProperties", key)

    def uses(self, keyword: str) -> bool:
        """Whether a keyword occurs anywhere with a true value."""
        return any(node.contents.get(keyword) for node in self._nodes.values())

    def dialects(self) -> frozenset[str]:
        """The dialects of the meta-schemas that are reached, by their URI without fragment."""
        reached = {node.document.removesuffix("#") for node in self._nodes.values()}
        return frozenset(
            str(cast("Any", META_SCHEMAS.contents(uri))["$schema"]).removesuffix("#")
            for uri in reached & set(META_SCHEMAS)
        )

    def ambiguous_branches(self) -> int:
        """How many members of one undiscriminated union lead back to it, at most.

        With two or more, trying each member at each level takes exponential time.
        """
        cycles: dict[int, int] = {}
        for number, component in enumerate(_components(self._nodes.values(), _successors)):
            for node in component:
                cycles[id(node)] = number
        most = 0
        for node in self._nodes.values():
            mine = cycles.get(id(node))
            if mine is None:
                continue
            for members in node.unions:
                recursing = [each for each in members if cycles.get(id(each)) == mine]
                for kind in ("object", "array"):
                    most = max(most, sum(kind in _kinds(each) for each in recursing))
        return most


def _place(node: _Node, *below: str) -> str:
    return f"{pointer_to((*node.path, *below))} in {node.document or 'the schema'}"


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[Path, object, bool | None]]:
    """Subschemas as (path, contents, in place?); None for those that are only contained."""
    for keyword, value in schema.items():
        if keyword in _IN_PLACE:
            yield (keyword,), value, True
        if keyword in _BELOW and not isinstance(value, list):
            yield (keyword,), value, False
        if keyword in _IN_PLACE_LISTS or keyword in _BELOW_LISTS:
            for index, each in enumerate(_items(value)):
                yield (keyword, index), each, keyword in _IN_PLACE_LISTS
        if keyword in _IN_PLACE_MAPS or keyword in _BELOW_MAPS or keyword in _CONTAINED_MAPS:
            mode = None if keyword in _CONTAINED_MAPS else keyword in _IN_PLACE_MAPS
            for name, each in _entries(value):
                yield (keyword, name), each, mode


def _successors(node: _Node) -> list[_Node]:
    return [*node.in_place, *node.below]


def _kinds(node: _Node) -> set[str]:
    """Whether a schema that recurses does so through objects, arrays or both."""
    seen: set[int] = set()
    while "$ref" in node.contents and len(node.in_place) == 1 and id(node) not in seen:
        seen.add(id(node))
        node = node.in_place[0]
    declared = node.contents.get("type")
    if declared is not None:
        return {"object", "array"} & set(declared if isinstance(declared, list) else [declared])
    has_object = bool(_OBJECT_KEYWORDS & node.contents.keys())
    has_array = bool(_ARRAY_KEYWORDS & node.contents.keys())
    if has_object != has_array:
        return {"object"} if has_object else {"array"}
    return {"object", "array"}


def _components(  # noqa: C901 - one algorithm, as it is published
    nodes: Any, successors: Any
) -> Iterator[list[_Node]]:
    """The cycles of a graph: its strongly connected components (Tarjan 1972), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[_Node] = []
    on_stack: set[int] = set()
    for start in nodes:
        if id(start) in index:
            continue
        work: list[tuple[_Node, Iterator[_Node]]] = [(start, iter(successors(start)))]
        index[id(start)] = low[id(start)] = len(index)
        stack.append(start)
        on_stack.add(id(start))
        while work:
            node, remaining = work[-1]
            following = next(remaining, None)
            if following is not None:
                if id(following) not in index:
                    index[id(following)] = low[id(following)] = len(index)
                    stack.append(following)
                    on_stack.add(id(following))
                    work.append((following, iter(successors(following))))
                elif id(following) in on_stack:
                    low[id(node)] = min(low[id(node)], index[id(following)])
                continue
            work.pop()
            if work:
                parent = work[-1][0]
                low[id(parent)] = min(low[id(parent)], low[id(node)])
            if low[id(node)] == index[id(node)]:
                component: list[_Node] = []
                while True:
                    member = stack.pop()
                    on_stack.discard(id(member))
                    component.append(member)
                    if member is node:
                        break
                if len(component) > 1 or node in successors(node):
                    yield component


def _entries(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from cast("Mapping[str, object]", value).items()


def _keys(value: object) -> Iterator[str]:
    return (key for key, _ in _entries(value))


def _values(value: object) -> Iterator[object]:
    return (each for _, each in _entries(value))


def _items(value: object) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()


def _texts(value: object) -> Iterator[str]:
    return (each for each in _items(value) if isinstance(each, str))
