"""`metadata`: reads and writes the metadata of the run that the current code belongs to."""

from __future__ import annotations

import abc
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Literal, overload

from inngest_plugins.core import Call

from ._changes import Scope, StepRef
from ._errors import (
    MetadataContextError,
    MetadataSendError,
    MetadataValueError,
)
from ._keys import check_run_id, check_stream_name, parse, wire_kind
from ._live import ChunkT, forward
from ._operations import Document, Operation, find
from ._run_state import HERE, STATE, RunState, Where
from ._sender import Target, Updates
from ._typed import ModelT, TypedView
from ._values import Json, copy
from ._writes import Writes

LENIENT: weakref.WeakSet[object] = weakref.WeakSet()
"""Plugins with `strict=False`: outside of a run nothing says which plugin would apply."""


def current_run() -> RunState | None:
    """Return the state of the current run; None where there is none and a plugin ignores that.

    Raises:
        MetadataContextError: there is none.
    """
    call = Call.current()
    state = None if call is None else call.get(STATE)
    if state is None and not LENIENT:
        if call is None:
            raise MetadataContextError(
                "metadata was used outside of a run, or in one whose client has no plugin: "
                "call it from a function, a step or a hook, with a MetadataPlugin in the "
                "client's middleware; from elsewhere use MetadataClient(client).run(run_id); "
                "or pass MetadataPlugin(strict=False) to ignore this"
            )
        raise MetadataContextError(
            f"metadata was used in function {call.function_id!r}, which has no MetadataPlugin: "
            "add it to the middleware of the client or of the function"
        )
    return state


class _RunMetadata(Writes):
    """Reads and writes the current run's metadata."""

    def __init__(self, where: Where, kind: str | None) -> None:
        super().__init__(kind)
        self._where = where

    def get(self, key: str, default: Json = None, *, kind: str | None = None) -> Json:
        """Return what has been recorded under a key so far, as a copy.

        Args:
            key: a name or path.
            default: returned when there is nothing.
            kind: the namespace.
        """
        path = parse(key)
        state = current_run()
        if state is None:
            return default
        with state.lock:
            return copy(find(self._document(state, self._wire(state, kind)), path, default))

    def current(self, *, kind: str | None = None) -> Document:
        """Return everything that has been recorded so far, as a copy."""
        state = current_run()
        if state is None:
            return {}
        with state.lock:
            document: Document = copy(self._document(state, self._wire(state, kind)))
            return document

    def typed(self, model: type[ModelT], *, kind: str | None = None) -> TypedView[ModelT]:
        """Return a view of the metadata through a Pydantic model, for reads and writes.

        Raises:
            MetadataValueError: `model` is no class of Pydantic's `BaseModel`.
        """
        return TypedView(model, self, kind)

    @abc.abstractmethod
    def _document(self, state: RunState, wire: str) -> Document:
        """Return the object to read; not a copy."""

    def _wire(self, state: RunState, kind: str | None) -> str:
        return wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)

    def _record(self, kind: str, operations: Sequence[Operation]) -> None:
        state = current_run()
        if state is not None:
            state.write(self._where, kind, operations)


class ScopeMetadata(_RunMetadata):
    """The metadata of this run, or of one of its steps, chosen explicitly.

    Reads give the metadata of exactly this scope; `metadata` itself reads all scopes of the
    run together.
    """

    def __init__(self, scope: Scope, kind: str | None) -> None:
        super().__init__(scope, kind)
        self._scope = scope

    def step(self, step_id: str, index: int = 0, *, kind: str | None = None) -> ScopeMetadata:
        """Choose a step of this run; see `Metadata.step`."""
        return ScopeMetadata(StepRef.named(step_id, index), self._kind if kind is None else kind)

    def _document(self, state: RunState, wire: str) -> Document:
        return state.document(self._scope, wire)


class OtherMetadata(Writes):
    """The metadata of another run, or of one of its steps. It can be written, not read.

    The engine applies each operation on its own, so writers do not get in one another's way:
    `increment` from any number of runs loses nothing, and of two `set`s of one key the later wins.
    What the engine cannot do without a race is refused with `MetadataTargetError`: `append`,
    `remove` and paths into nested values.

    What a step records is sent when the step has run; increments only if it succeeded, so that a
    retry does not count twice. Increments in the function's body are sent by the request in which
    that code first runs. An engine that loses the answer of a request runs its step again: only
    then can an increment count twice.
    """

    def __init__(self, target: Target | None, kind: str | None) -> None:
        super().__init__(kind)
        self._target = target

    def step(self, step_id: str, index: int = 0, *, kind: str | None = None) -> OtherMetadata:
        """Choose a step of that run.

        Args:
            step_id: the step's id.
            index: which use of the id, from 0.
            kind: the namespace.

        Raises:
            MetadataKeyError: `step_id` is no str, or `index` no whole number from 0.
        """
        step, target = StepRef.named(step_id, index), self._target
        if target is not None:
            target = Target(target.run_id, step)
        return OtherMetadata(target, self._kind if kind is None else kind)

    def _record(self, kind: str, operations: Sequence[Operation]) -> None:
        state = current_run()
        if state is not None and self._target is not None:
            state.write_remote(self._target, kind, operations)


class Metadata(_RunMetadata):
    """The metadata of the run that the current code belongs to.

    Use the module's `metadata`. Written inside of a step it belongs to that attempt of the step, in
    the function's body and in hooks to the run. Read, it is everything that the run has recorded
    so far, in the order of the program: by the body, and by the steps that succeeded.
    """

    def __init__(self) -> None:
        super().__init__(HERE, None)

    @overload
    def run(self, run_id: None = None, *, kind: str | None = None) -> ScopeMetadata: ...
    @overload
    def run(self, run_id: str, *, kind: str | None = None) -> ScopeMetadata | OtherMetadata: ...
    def run(
        self, run_id: str | None = None, *, kind: str | None = None
    ) -> ScopeMetadata | OtherMetadata:
        """Choose a run's own metadata, also from inside of a step.

        Args:
            run_id: a ULID; None for the current run.
            kind: the namespace.

        Raises:
            MetadataKeyError: `run_id` is not a ULID.
        """
        if run_id is None:
            return ScopeMetadata(None, kind)
        state = current_run()
        if state is not None and run_id == state.call.run_id:
            return ScopeMetadata(None, kind)
        return OtherMetadata(Target(check_run_id(run_id)), kind)

    def step(
        self, step_id: str | None = None, index: int = 0, *, kind: str | None = None
    ) -> ScopeMetadata:
        """Choose a step of the current run.

        Args:
            step_id: the step's id; None for the running step.
            index: which use of the id in the function, from 0.
            kind: the namespace.

        Raises:
            MetadataContextError: no `step_id`, and no step is running.
            MetadataKeyError: `step_id` is no str, or `index` no whole number from 0.
        """
        if step_id is not None:
            return ScopeMetadata(StepRef.named(step_id, index), kind)
        state = current_run()
        running = None if state is None else state.running_step
        if state is not None and running is None:
            raise MetadataContextError(
                "metadata.step() without an id means the running step, and there is none: "
                "call it inside of a step, or name one"
            )
        return ScopeMetadata(running, kind)

    @property
    def parent(self) -> OtherMetadata:
        """The metadata of the run that invoked this one.

        Raises:
            MetadataContextError: none did, or it had no `MetadataPlugin`.
        """
        return self._invoker("parent")

    @property
    def root(self) -> OtherMetadata:
        """The metadata of the run at the start of the chain of invokes.

        Raises:
            MetadataContextError: this run was not invoked, or its parent had no `MetadataPlugin`.
        """
        return self._invoker("root")

    @property
    def has_parent(self) -> bool:
        """Whether another run with a `MetadataPlugin` invoked this one."""
        state = current_run()
        return state is not None and state.parent is not None

    def _invoker(self, which: Literal["parent", "root"]) -> OtherMetadata:
        state = current_run()
        if state is None:
            return OtherMetadata(None, None)
        run_id = state.parent if which == "parent" else state.root
        if run_id is None:
            raise MetadataContextError(
                f"run {state.call.run_id} of {state.call.function_id!r} has no parent: it was not "
                "invoked with step.invoke by a run that has a MetadataPlugin (see "
                "metadata.has_parent)"
            )
        return OtherMetadata(Target(run_id), None)

    def _document(self, state: RunState, wire: str) -> Document:
        return state.view(wire)

    # ------------------------------------------------------------ sending

    async def flush(self) -> None:
        """Send new metadata now, and wait until the engine has it.

        Without it everything arrives too, at the end of the step or request. During a replay there
        is nothing new to send. Increments of other runs' metadata wait for the end of the step,
        when it is known that they count.

        Raises:
            MetadataSendError: some of it did not arrive; the next flush tries again.
        """
        state = current_run()
        if state is not None:
            import anyio.to_thread

            await anyio.to_thread.run_sync(_flush, state, state.flush())

    def flush_sync(self) -> None:
        """Send new metadata now; `flush` for sync functions."""
        state = current_run()
        if state is not None:
            _flush(state, state.flush())

    def stream(self, name: str, chunks: AsyncIterable[ChunkT]) -> AsyncIterator[ChunkT]:
        """Forward chunks to subscribers as they pass.

        Args:
            name: the stream's name, for `subscribe_stream`.
            chunks: the source; each chunk must be JSON.

        Returns:
            The same chunks, in the same order. Iterate to the end. With
            `MetadataPlugin(realtime=True)` each is published in the background, except in a replay.

        Raises:
            MetadataKeyError: the name is no str, empty or too long.
            MetadataValueError: the source is no async iterable.
        """
        check_stream_name(name)
        source: object = chunks
        if not isinstance(source, AsyncIterable):
            raise MetadataValueError(
                f"metadata stream {name!r}: the source is an async iterable, such as an "
                f"async generator that was called, not {type(source).__name__}"
            )
        state = current_run()
        publisher = state.publisher if state is not None and state.is_new else None
        return forward(name, chunks, publisher)


def _flush(state: RunState, updates: Updates) -> None:
    problems = state.send(updates)
    if problems:
        raise MetadataSendError(f"metadata of run {state.call.run_id}: {'; '.join(problems)}")


metadata = Metadata()
"""The metadata of the run that the current code belongs to; see `Metadata`."""
