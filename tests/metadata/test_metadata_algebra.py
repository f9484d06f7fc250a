"""Recordings fold what they record; folding must change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inngest_plugins.metadata import (
    Limits,
    MetadataError,
    MetadataLimitError,
    MetadataTargetError,
    MetadataValueError,
)
from inngest_plugins.metadata._changes import Changes, StepRecord, StepRef
from inngest_plugins.metadata._objects import MetadataObject, SizeBudget
from inngest_plugins.metadata._operations import Document, Operation, add, apply, check, find
from inngest_plugins.metadata._sender import Target, Update, Updates, entries_of
from inngest_plugins.metadata._values import copy, document_size, same

LIMITS = Limits()

plain = st.none() | st.booleans() | st.integers(-50, 50) | st.sampled_from(["x", "y"])
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pq"), inner, max_size=2)
    ),
    max_leaves=4,
)
amounts = st.integers(-5, 5) | st.sampled_from([0.1, 0.2, 0.25, 1.5])
paths = st.tuples(
    st.sampled_from("abc"), st.lists(st.sampled_from(["p", "q"]) | st.integers(0, 2), max_size=2)
).map(lambda parts: (parts[0], *parts[1]))
operations: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("set"), paths, values),
    st.tuples(st.just("delete"), paths, st.none()),
    st.tuples(st.just("append"), paths, st.lists(values, min_size=1, max_size=2)),
    st.tuples(st.just("remove"), paths, values),
    st.tuples(st.just("increment"), paths, amounts),
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


class Recording:
    """An object that is written to, and its changes, as an attempt keeps them."""

    def __init__(self, base: Document) -> None:
        self._object = MetadataObject(None, copy(base), SizeBudget(LIMITS), "the test")
        self.document = self._object.document
        self.changes = Changes()

    def write(self, operation: Operation) -> None:
        self._object.write([operation])
        self.changes.note(operation)

    def note(self, operation: Operation) -> None:
        apply(self.document, operation)
        self.changes.note(operation)


def recording(base: Document) -> Recording:
    return Recording(base)


def attempt(target: Recording, model: Document, operation: Operation) -> None:
    """Write to both; the model only takes what the recording did not refuse."""
    try:
        target.write(operation)
    except MetadataValueError:
        return
    apply(model, operation)


@settings(deadline=None)
@given(documents, st.lists(operations, max_size=25))
def test_a_recording_holds_what_its_operations_make(
    base: Document, written: list[Operation]
) -> None:
    """The document of a recording is the base with the accepted operations applied in order."""
    model: Document = json.loads(json.dumps(base))
    target = recording(base)
    for operation in written:
        attempt(target, model, operation)
    assert same(target.document, model)


@settings(deadline=None)
@given(documents, st.lists(operations, max_size=25))
def test_a_delta_brings_its_own_base_to_the_same_value(
    base: Document, written: list[Operation]
) -> None:
    """Applying the folded delta to the base gives what applying the operations one by one gave."""
    target = recording(base)
    model: Document = json.loads(json.dumps(base))
    for operation in written:
        attempt(target, model, operation)
    delta = Changes.from_json(json.loads(json.dumps(target.changes.to_json())))
    replayed: Document = json.loads(json.dumps(base))
    delta.apply(replayed)
    assert same(replayed, model)


@settings(deadline=None)
@example({"c": [None, None]}, {}, [("delete", ("c", 0), None)], [("set", ("c", 0), 1)])
@example({"c": [1, 2, 3]}, {}, [("delete", ("c", 0), None)], [("delete", ("c", 0), None)])
@given(documents, documents, st.lists(operations, max_size=12), st.lists(operations, max_size=12))
def test_recordings_can_follow_one_another(
    base: Document, other: Document, first: list[Operation], second: list[Operation]
) -> None:
    """Two recordings in a row, or the second with all of the first repeated, come to the same."""
    one = recording(base)
    for operation in first:
        attempt(one, {}, operation)
    two = recording(one.document)
    for operation in second:
        attempt(two, {}, operation)
    whole = recording(base)
    for operation in (*one.changes, *two.changes):
        whole.note(operation)
    assert same(whole.document, two.document)
    replayed: Document = json.loads(json.dumps(base))
    whole.changes.apply(replayed)
    assert same(replayed, two.document)
    one.changes.apply(other)  # a base of another shape never raises


@settings(deadline=None)
@given(documents, documents, st.lists(operations, max_size=8))
def test_replacing_forgets_what_was_there(
    base: Document, new: Document, written: list[Operation]
) -> None:
    """After `replace` the delta gives the same value whatever it is applied to."""
    target = recording(base)
    target.write(("replace", (), new))
    for operation in written:
        attempt(target, {}, operation)
    for start in ({}, base, {"z": 1}):
        replayed: Document = json.loads(json.dumps(start))
        target.changes.apply(replayed)
        assert same(replayed, target.document)


@settings(deadline=None)
@given(documents, st.lists(operations, max_size=20))
def test_no_operation_fails_on_replay(base: Document, written: list[Operation]) -> None:
    """`apply` takes any operation on any object, and what comes out is JSON."""
    for operation in written:
        apply(base, operation)
    assert same(json.loads(json.dumps(base, allow_nan=False)), base)


@settings(deadline=None)
@given(documents, st.lists(operations, max_size=20))
def test_what_check_lets_through_lands_where_it_was_aimed(
    base: Document, written: list[Operation]
) -> None:
    """A checked set is found at its path afterwards, and what a checked delete names is gone."""
    for operation in written:
        code, path, operand = operation
        try:
            check(base, operation)
        except MetadataValueError:
            continue
        apply(base, operation)
        if code == "set":
            assert same(find(base, path), operand)
        if code == "delete" and isinstance(path[-1], str):
            assert find(base, path, "gone") == "gone"


def test_ten_thousand_increments_fold_into_one() -> None:
    """However often a key is incremented, its delta is one operation."""
    target = recording({})
    for _ in range(10_000):
        target.write(("increment", ("n",), 1))
    assert list(target.changes) == [("increment", ("n",), 10_000)]


def test_alternating_nested_keys_fold_too() -> None:
    """Operations on places that do not contain one another are folded across each other."""
    target = recording({})
    for number in range(100):
        target.write(("increment", ("rows", "done"), 1))
        target.write(("set", ("rows", "last"), number))
    assert len(list(target.changes)) == 2


@settings(deadline=None)
@given(st.lists(st.decimals(-1000, 1000, places=3).map(float), min_size=1, max_size=30), st.data())
def test_decimal_increments_do_not_depend_on_their_grouping(
    increments: list[float], data: st.DataObject
) -> None:
    """Sums of decimals are the same however they are grouped."""
    cut = data.draw(st.integers(0, len(increments)))
    one_by_one: float = 0
    for increment in increments:
        one_by_one = add(one_by_one, increment)
    left: float = 0
    for increment in increments[:cut]:
        left = add(left, increment)
    right: float = 0
    for increment in increments[cut:]:
        right = add(right, increment)
    assert add(left, right) == one_by_one


def test_decimals_add_up_as_written() -> None:
    """A tenth and two tenths are three tenths, and a sum beyond the doubles stays finite."""
    assert add(0.1, 0.2) == 0.3
    assert add(1.7e308, 1.7e308) == 1.7976931348623157e308


@pytest.mark.parametrize(
    ("base", "operation", "part"),
    [
        ({"n": "text"}, ("increment", ("n",), 1), "cannot increment, it holds a string"),
        ({"n": True}, ("increment", ("n",), 1), "a boolean"),
        ({"n": None}, ("increment", ("n",), 1), "null"),
        ({"n": 2**53}, ("increment", ("n",), 1), r"beyond 2\*\*53"),
        ({"l": 1}, ("append", ("l",), [1]), "cannot append, it holds a number"),
        ({"l": {}}, ("remove", ("l",), 1), "cannot remove, it holds an object"),
        ({"a": 1}, ("set", ("a", "b"), 1), r"a holds a number, which has no key 'b'"),
        ({"a": {}}, ("set", ("a", 0), 1), r"a holds an object, which has no index 0"),
        ({"a": [1]}, ("set", ("a", 3), 1), "a has 1 items, so there is no index 3"),
        ({}, ("set", ("a", 1), 1), "a does not exist, so there is no index 1"),
        ({"a": []}, ("delete", ("a", "b"), None), "holds a list, which has no key"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    base: Document, operation: Operation, part: str
) -> None:
    """An operation that cannot be meant raises with the key and what is there instead."""
    target = recording(base)
    with pytest.raises(MetadataValueError, match=part):
        target.write(operation)
    assert target.document == base
    assert not target.changes


def test_a_scope_has_a_size_limit() -> None:
    """A write that would make a scope larger than 64 KB names its key and records nothing."""
    target = recording({})
    target.write(("set", ("a",), "x" * 40_000))
    with pytest.raises(
        MetadataLimitError, match=r"metadata \$\.big\.key: .*the test.* 65536 bytes"
    ):
        target.write(("set", ("big", "key"), "x" * 30_000))
    assert list(target.document) == ["a"]
    target.write(("set", ("b",), "x" * 25_000))
    assert document_size(target.document) <= 65_536
    target.write(("set", ("a",), "small"))
    target.write(("set", ("c",), "x" * 40_000))
    assert document_size(target.document) <= 65_536


def test_an_estimate_never_refuses() -> None:
    """A scope takes writes up to its last byte, although sizes are estimated in between."""
    target = recording({})
    for _ in range(50_000):
        target.write(("set", ("flag",), False))
    room = 65_536 - document_size(target.document) - len("k") - 2
    target.write(("set", ("k",), "x" * room))
    assert document_size(target.document) == 65_536
    with pytest.raises(MetadataLimitError):
        target.write(("append", ("l",), [1]))
    with pytest.raises(MetadataLimitError):
        target.write(("replace", (), {"k": "x" * 70_000}))


def test_a_run_has_a_size_limit_over_all_scopes() -> None:
    """All objects of a run together are limited, and what was replaced does not count."""
    budget = SizeBudget(LIMITS)
    targets = [MetadataObject(number, {}, budget, f"scope {number}") for number in range(17)]
    for target in targets[:16]:
        for _ in range(3):
            target.write([("set", ("k",), "x" * 65_000)])
    with pytest.raises(MetadataLimitError, match=r"metadata k: .*the metadata of the run"):
        targets[16].write([("set", ("k",), "x" * 65_000)])
    targets[0].write([("delete", ("k",), None)])
    targets[16].write([("set", ("k",), "x" * 65_000)])


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        [],
        {},
        {"v": 1},
        {"v": 1, "step": ["a", 0], "own": []},
        {"v": 1, "step": ["a", 0], "own": {"k": {"do": [["explode", ["a"], 1]]}}},
        {"v": 1, "step": ["a", 0], "own": {"k": {"do": [["set", [], 1]]}}},
        {"v": 1, "step": ["a", 0], "own": {"k": {"do": [["set", [0], 1]]}}},
        {"v": 1, "step": ["a", 0], "steps": [["b"]]},
        {"v": 2, "step": ["a", 0]},
    ],
)
def test_a_malformed_record_is_refused(malformed: Any) -> None:
    """What this plugin did not write, or a newer one did, is not taken for a step's metadata."""
    with pytest.raises(MetadataError, match="metadata"):
        StepRecord.from_json(malformed)


def test_a_record_reads_back() -> None:
    """Own, run and other steps' deltas, and the view, survive the way over the wire."""
    step = StepRef("a", 1)
    delta = Changes()
    delta.note(("set", ("k",), 1))
    delta.note(("delete", ("d",), None))
    delta.note(("increment", ("n",), 2))
    record = StepRecord(
        step,
        branch=(0, 2, 1, 0),
        after=3,
        changes={(step, "x"): delta, (None, "x"): delta, (StepRef("b"), "y"): delta},
        views={"x": delta, "y": delta},
    )
    read = StepRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert read.to_json() == record.to_json()
    assert (read.step, read.branch, read.after) == (step, (0, 2, 1, 0), 3)
    assert read.changes.keys() == record.changes.keys()
    assert read.views.keys() == record.views.keys()


remote_operations: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("set"), st.tuples(st.sampled_from("abc")), plain),
    st.tuples(st.just("delete"), st.tuples(st.sampled_from("abc")), st.none()),
    st.tuples(st.just("increment"), st.tuples(st.sampled_from("abc")), st.integers(-5, 5)),
)


def engine_apply(document: Document, entries: list[Any]) -> None:
    """Do what the Inngest server does with the entries of a request (`Values.Combine`)."""
    for entry in entries:
        for key, value in entry["values"].items() if entry["op"] != "set" else ():
            if entry["op"] == "delete":
                document.pop(key, None)
            elif entry["op"] == "merge":
                document[key] = value
            else:
                present = document.get(key)
                numeric = type(present) in (int, float)
                document[key] = present + value if numeric else value
        if entry["op"] == "set":
            document.clear()
            document.update(entry["values"])


@settings(deadline=None)
@given(
    documents,
    st.lists(remote_operations, max_size=15),
    st.lists(remote_operations, max_size=15),
    st.none() | documents,
)
def test_an_update_tells_the_engine_the_same_as_its_operations(
    base: Document,
    first: list[Operation],
    second: list[Operation],
    replacement: Document | None,
) -> None:
    """Folded updates, one following another, change another run as the operations would."""
    model: Document = json.loads(json.dumps(base))
    target = Target("01J00000000000000000000000")
    earlier, later = Updates(LIMITS), Updates(LIMITS)
    for operation in first:
        earlier.to(target, "k").write([operation])
        apply(model, operation)
    if replacement is not None:
        later.to(target, "k").write([("replace", (), replacement)])
        model = json.loads(json.dumps(replacement))
    for operation in second:
        later.to(target, "k").write([operation])
        apply(model, operation)
    earlier.follow(later)
    for entries in earlier.batches().values():
        engine_apply(base, entries)
    assert same(base, model)


@pytest.mark.parametrize(
    "operation",
    [
        ("append", ("l",), [1]),
        ("remove", ("l",), 1),
        ("set", ("a", "b"), 1),
        ("increment", ("a", "b"), 1),
    ],
)
def test_what_the_engine_cannot_do_without_a_race_is_refused(operation: Operation) -> None:
    """On metadata whose value is not known, only whole top-level keys can be written."""
    update = Update(LIMITS, "run X")
    with pytest.raises(MetadataTargetError, match=r"of run X: .*top-level keys"):
        update.write([operation])
    assert entries_of("k", update.changes) == []


def test_updates_have_a_size_limit_too() -> None:
    """What goes to another run is limited as a scope is, and the error names the key."""
    update = Update(LIMITS, "run X")
    for _ in range(3):
        update.write([("set", ("a",), "x" * 40_000)])
    with pytest.raises(MetadataLimitError, match=r"metadata b: .*run X"):
        update.write([("set", ("b",), "x" * 40_000)])
    with pytest.raises(MetadataLimitError, match="metadata c"):
        update.write([("replace", (), {"c": "x" * 70_000})])
    assert [entry["values"].keys() for entry in entries_of("k", update.changes)] == [{"a"}]
