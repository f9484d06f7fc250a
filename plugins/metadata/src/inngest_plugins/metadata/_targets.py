"""What `metadata.run(...)`, `metadata.step(...)`, `metadata.parent` and `metadata.root` return."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from inngest_plugins.core import Call

from ._errors import MetadataContextError
from ._frame import Scope, Where
from ._json import Json, copy
from ._limits import DEFAULT_KIND, check_key, wire_kind
from ._ops import Document, Operation, find
from ._outgoing import StepRef, Target
from ._paths import parse
from ._state import CURRENT, RunState
from ._typed import ModelT, TypedView
from ._writes import Writes

if TYPE_CHECKING:
    from ._plugin import MetadataPlugin


class CurrentRun:
    """Finds the run that the current code belongs to."""

    def __init__(self) -> None:
        # Outside of a run there is no call to tell the plugin by, so plugins that want silence
        # there are remembered; weakly, so that it lasts as long as they do.
        self._lenient: weakref.WeakSet[MetadataPlugin] = weakref.WeakSet()

    def be_lenient(self, plugin: MetadataPlugin) -> None:
        """Ignore metadata outside of runs for as long as this plugin lives."""
        self._lenient.add(plugin)

    def state(self) -> RunState | None:
        """Return the run's state; None where there is none and that is to be ignored.

        Raises:
            MetadataContextError: there is none.
        """
        state = CURRENT.get()
        if state is None and not self._lenient:
            call = Call.current()
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


class LocalWrites(Writes):
    """Writes to the current run's metadata."""

    def __init__(self, runs: CurrentRun, where: Where, kind: str | None) -> None:
        self._runs = runs
        self._where = where
        self._kind = DEFAULT_KIND if kind is None else kind

    def _write(self, kind: str | None, *operations: Operation) -> None:
        state = self._runs.state()
        if state is not None:
            limits = state.limits
            for _, path, _ in operations:
                check_key(path, limits.key_bytes)
            wire = wire_kind(self._kind if kind is None else kind, limits.kind_bytes)
            state.write(self._where, wire, operations)

    def _replace(self, kind: str | None, values: Document) -> None:
        state = self._runs.state()
        if state is not None:
            for key in values:
                check_key((key,), state.limits.key_bytes)
            wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
            state.replace(self._where, wire, values)


class ScopeMetadata(LocalWrites):
    """The metadata of this run, or of one of its steps, chosen explicitly.

    Reads give what was recorded for exactly this scope; `metadata` itself reads all scopes of the
    run together.
    """

    def __init__(self, runs: CurrentRun, scope: Scope, kind: str | None) -> None:
        super().__init__(runs, scope, kind)
        self._scope = scope

    def step(self, step_id: str, index: int = 0, *, kind: str | None = None) -> ScopeMetadata:
        """Choose a step of this run; see `Metadata.step`."""
        return ScopeMetadata(
            self._runs, StepRef(step_id, index), self._kind if kind is None else kind
        )

    def get(self, key: str, default: Json = None, *, kind: str | None = None) -> Json:
        """Return what was recorded under a key for this scope, as a copy."""
        path = parse(key)
        state = self._runs.state()
        if state is None:
            return default
        with state.lock:
            return copy(find(self._document(state, kind), path, default))

    def current(self, *, kind: str | None = None) -> Document:
        """Return everything that was recorded for this scope, as a copy."""
        state = self._runs.state()
        if state is None:
            return {}
        with state.lock:
            document: Document = copy(self._document(state, kind))
            return document

    def typed(self, model: type[ModelT], *, kind: str | None = None) -> TypedView[ModelT]:
        """Return a view of this scope's metadata through a Pydantic model."""
        return TypedView(model, self, kind)

    def _document(self, state: RunState, kind: str | None) -> Document:
        wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
        return state.document(self._scope, wire)


class OtherMetadata(Writes):
    """The metadata of another run, or of one of its steps. It can be written, not read.

    The engine applies each operation on its own, so writers do not get in one another's way:
    `increment` from any number of runs loses nothing, and of two `set`s of one key the later wins.
    What the engine cannot do without a race is refused with `MetadataTargetError`: `append`,
    `remove` and paths into nested values.

    What is recorded in a step goes out when the step has run; increments only if it succeeded, so
    that a retry does not count twice. In the function's body they go out with the request in which
    that code first runs. An engine that loses the answer of a request runs its step again; to
    nothing else can an increment be lost or counted twice.
    """

    def __init__(self, runs: CurrentRun, target: Target | None, kind: str | None) -> None:
        self._runs = runs
        self._target = target
        self._kind = DEFAULT_KIND if kind is None else kind

    def step(self, step_id: str, index: int = 0, *, kind: str | None = None) -> OtherMetadata:
        """Choose a step of that run.

        Args:
            step_id: the step's id.
            index: which use of the id, from 0.
            kind: the namespace.
        """
        target = self._target
        if target is not None:
            target = Target(target.run_id, StepRef(step_id, index))
        return OtherMetadata(self._runs, target, self._kind if kind is None else kind)

    def _write(self, kind: str | None, *operations: Operation) -> None:
        state = self._runs.state()
        if state is not None and self._target is not None:
            for _, path, _ in operations:
                check_key(path, state.limits.key_bytes)
            wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
            with state.lock:
                update = state.remote(self._target, wire)
                for operation in operations:
                    update.write(operation)

    def _replace(self, kind: str | None, values: Document) -> None:
        state = self._runs.state()
        if state is not None and self._target is not None:
            for key in values:
                check_key((key,), state.limits.key_bytes)
            wire = wire_kind(self._kind if kind is None else kind, state.limits.kind_bytes)
            with state.lock:
                state.remote(self._target, wire).replace(values)
