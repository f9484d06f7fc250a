"""`defer`: start a function when the run has ended."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import inngest

from inngest_plugins.core import Call

from ._deferrals import DEFERRALS, Deferrals
from ._errors import DeferContextError, DeferDataError
from ._function import DeferredTarget

DataT = TypeVar("DataT")


class Deferral:
    """What was deferred.

    Attributes:
        id: the id given to `defer`.
    """

    __slots__ = ("_deferrals", "_hashed_id", "id")

    def __init__(self, defer_id: str, hashed_id: str, deferrals: Deferrals) -> None:
        self.id = defer_id
        self._hashed_id = hashed_id
        self._deferrals = deferrals

    def abort(self) -> None:
        """Take it back: the function will not be started. Again, it changes nothing.

        The id stays used: a later deferral under it in the run is not started either.

        Raises:
            DeferContextError: the request has been answered, or this is another run.
        """
        self._deferrals.abort(self.id, self._hashed_id)

    def __repr__(self) -> str:
        return f"<Deferral {self.id!r}>"


@overload
def defer(id: str, function: DeferredTarget[DataT], data: DataT) -> Deferral: ...
@overload
def defer(
    id: str,
    function: DeferredTarget[dict[str, Any]] | inngest.Function[Any],
    data: Any = ...,
) -> Deferral: ...
def defer(id: str, function: Any, data: Any = None) -> Deferral:  # noqa: A002
    """Start a deferred function when this run has ended, however it ends.

    Works in a function's body, in a step and in what they call, in async and in sync functions.
    It does not wait: the engine acknowledges it before the request is answered. Each id is
    deferred once in a run, however often the code is replayed or tried again; the data of the
    first time counts.

    Args:
        id: the deferral's id, unique in the run.
        function: what `deferred_function` returned, or the function it decorated.
        data: the function's data: of its schema's type, or convertible to it by Pydantic.

    Returns:
        The deferral, which can be aborted.

    Raises:
        DeferContextError: outside of a run, without a `DeferPlugin`, or after the answer.
        UnknownFunctionError: it is not a deferred function, or the app does not serve it.
        DeferDataError: the data does not fit the schema, or the id is not a text.
        DeferConflictError: the run has used the id for another function or other data.
        DeferLimitError: it is more than the engine takes of a run.
    """
    given: object = id
    if not isinstance(given, str) or not given:
        raise DeferDataError(
            f"the id of a deferral is a text that is not empty, not {type(given).__name__}"
        )
    try:
        id.encode()
    except UnicodeEncodeError:
        raise DeferDataError(
            f"the id of a deferral is hashed as UTF-8, which cannot hold all of {id!r}"
        ) from None
    call = Call.current()
    if call is None:
        raise DeferContextError(
            f"defer({id!r}) outside of a run, or in an app without plugins. In a function, add "
            "DeferPlugin() to middleware=[...] of the client; elsewhere, send an event"
        )
    deferrals = call.get(DEFERRALS)
    if deferrals is None:
        raise DeferContextError(
            f"defer({id!r}) in function {call.function_id!r}: there is no DeferPlugin. Add "
            "DeferPlugin() to middleware=[...] of the client"
        )
    return Deferral(id, deferrals.add(id, function, {} if data is None else data), deferrals)
