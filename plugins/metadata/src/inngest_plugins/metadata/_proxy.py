"""`metadata`: the metadata of the run that the current code belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar, overload

import anyio.to_thread

from ._errors import MetadataContextError, MetadataKeyError, MetadataSendError
from ._frame import HERE
from ._json import Json, copy, normalize
from ._limits import check_run_id, wire_kind
from ._live import Publisher
from ._ops import Document, find
from ._outgoing import StepRef, Target, Updates
from ._paths import parse
from ._state import RunState
from ._targets import CurrentRun, LocalWrites, OtherMetadata, ScopeMetadata
from ._typed import ModelT, TypedView

ChunkT = TypeVar("ChunkT")

_MAX_STREAM_NAME = 128


class Metadata(LocalWrites):
    """The metadata of the run that the current code belongs to.

    Use the module's `metadata`. Written inside of a step it belongs to that attempt of the step, in
    the function's body and in hooks to the run. Read, it is everything that the run has recorded
    so far, in the order of the program: by the body, and by the steps that succeeded.
    """

    def __init__(self, runs: CurrentRun) -> None:
        super().__init__(runs, HERE, None)

    # ------------------------------------------------------------ reading

    def get(self, key: str, default: Json = None, *, kind: str | None = None) -> Json:
        """Return what the run has recorded under a key so far, as a copy.

        Args:
            key: a name or path.
            default: returned when there is nothing.
            kind: the namespace.
        """
        path = parse(key)
        state = self._runs.state()
        if state is None:
            return default
        wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
        with state.lock:
            return copy(find(state.view(wire), path, default))

    def current(self, *, kind: str | None = None) -> Document:
        """Return everything that the run has recorded so far, as a copy."""
        state = self._runs.state()
        if state is None:
            return {}
        wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
        with state.lock:
            document: Document = copy(state.view(wire))
            return document

    def typed(self, model: type[ModelT], *, kind: str | None = None) -> TypedView[ModelT]:
        """Return a view of the metadata through a Pydantic model, for reads and writes."""
        return TypedView(model, self, kind)

    # ------------------------------------------------------------ choosing what is meant

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
            MetadataKeyError: `run_id` is no ULID.
        """
        if run_id is None:
            return ScopeMetadata(self._runs, None, kind)
        state = self._runs.state()
        if state is not None and run_id == state.call.run_id:
            return ScopeMetadata(self._runs, None, kind)
        return OtherMetadata(self._runs, Target(check_run_id(run_id)), kind)

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
        """
        if step_id is not None:
            return ScopeMetadata(self._runs, StepRef(step_id, index), kind)
        state = self._runs.state()
        running = None if state is None else state.running_step
        if state is not None and running is None:
            raise MetadataContextError(
                "metadata.step() without an id means the running step, and there is none: "
                "call it inside of a step, or name one"
            )
        return ScopeMetadata(self._runs, running, kind)

    @property
    def parent(self) -> OtherMetadata:
        """The metadata of the run that invoked this one.

        Raises:
            MetadataContextError: none did, or it had no `MetadataPlugin`.
        """
        state = self._runs.state()
        return self._linked(state, None if state is None else state.parent)

    @property
    def root(self) -> OtherMetadata:
        """The metadata of the run at the start of the chain of invokes.

        Raises:
            MetadataContextError: this run was not invoked, or its parent had no `MetadataPlugin`.
        """
        state = self._runs.state()
        return self._linked(state, None if state is None else state.root)

    @property
    def has_parent(self) -> bool:
        """Whether another run with a `MetadataPlugin` invoked this one."""
        state = self._runs.state()
        return state is not None and state.parent is not None

    def _linked(self, state: RunState | None, run_id: str | None) -> OtherMetadata:
        if state is None:
            return OtherMetadata(self._runs, None, None)
        if run_id is None:
            raise MetadataContextError(
                f"run {state.call.run_id} of {state.call.function_id!r} has no parent: it was not "
                "invoked with step.invoke by a run that has a MetadataPlugin (see "
                "metadata.has_parent)"
            )
        return OtherMetadata(self._runs, Target(run_id), None)

    # ------------------------------------------------------------ sending

    async def flush(self) -> None:
        """Send now what is new, and wait until the engine has it.

        Not needed for anything to arrive: the end of the request sends it too. During a replay
        there is nothing new to send. Increments of other runs' metadata wait for the end of the
        step, when it is known that they count.

        Raises:
            MetadataSendError: some of it did not arrive; it is tried again with the next flush.
        """
        state = self._runs.state()
        if state is not None:
            await anyio.to_thread.run_sync(_flush, state, state.flush())

    def flush_sync(self) -> None:
        """Send now what is new; `flush` for sync functions."""
        state = self._runs.state()
        if state is not None:
            _flush(state, state.flush())

    def stream(self, name: str, chunks: AsyncIterable[ChunkT]) -> AsyncIterator[ChunkT]:
        """Forward chunks to subscribers as they pass.

        Args:
            name: the stream's name, for `subscribe_stream`.
            chunks: where they come from; each must be JSON.

        Returns:
            The same chunks, in the same order. They are forwarded in the background when the run
            has subscribers to serve (`MetadataPlugin(realtime=True)`) and the code is not being
            replayed; reading on is what drives it, so iterate to the end.

        Raises:
            MetadataKeyError: the name is empty or too long.
        """
        if not 0 < len(name.encode()) <= _MAX_STREAM_NAME:
            raise MetadataKeyError(
                f"metadata: a stream's name has 1 to {_MAX_STREAM_NAME} bytes, not "
                f"{len(name.encode())}"
            )
        state = self._runs.state()
        publisher = state.publisher if state is not None and state.is_new else None
        return _forward(name, chunks, publisher)


async def _forward(
    name: str, chunks: AsyncIterable[ChunkT], publisher: Publisher | None
) -> AsyncIterator[ChunkT]:
    index = 0
    try:
        async for chunk in chunks:
            if publisher is not None:
                publisher.chunk(name, index, normalize(chunk, f"stream {name!r}"), last=False)
                index += 1
            yield chunk
    finally:
        if publisher is not None:
            publisher.chunk(name, index, None, last=True)


def _flush(state: RunState, updates: Updates) -> None:
    problems = state.send(updates)
    if problems:
        raise MetadataSendError(f"metadata of run {state.call.run_id}: {'; '.join(problems)}")


RUNS = CurrentRun()
metadata = Metadata(RUNS)
"""The metadata of the run that the current code belongs to; see `Metadata`."""
