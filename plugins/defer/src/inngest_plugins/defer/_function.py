"""Deferred functions: how an app defines one, and names one of another app."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, overload

import inngest

from inngest_plugins.core import DEFERRED_EVENT, Call, class_name

from ._errors import DeferDefinitionError
from ._schema import DataSchema

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

_REFUSED: Final = {
    "trigger": "the end of the run that deferred it is what starts it",
    "batch_events": "each deferral is a run of its own",
}


class DeferredTarget(Generic[DataT]):
    """What `defer` takes: a function that can be deferred, by the engine's id of it.

    Attributes:
        id: the engine's id, `"<app>-<function>"`.
        schema: writes and reads its data.
    """

    def __init__(self, app_id: str, fn_id: str, schema: Any) -> None:
        self.id = f"{app_id}-{fn_id}"
        try:
            self.schema: DataSchema[DataT] = DataSchema(schema, f"{self.id!r}")
        except Exception as err:
            raise DeferDefinitionError(
                f"the schema of deferred function {fn_id!r} is not a type that Pydantic understands"
            ) from err

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class DeferredFunction(DeferredTarget[DataT]):
    """A deferred function of this app: a decorator for its handler, and what `defer` takes.

    Attributes:
        client: the client that it belongs to.
        function: the SDK's function, to be served; None before a handler was decorated.
    """

    def __init__(
        self, client: inngest.Inngest, fn_id: str, schema: Any, options: Mapping[str, Any]
    ) -> None:
        super().__init__(client.app_id, fn_id, schema)
        self.client = client
        self.function: inngest.Function[Any] | None = None
        self._fn_id = fn_id
        self._options = options

    def __call__(self, handler: Callable[[Any, DataT], Any]) -> inngest.Function[Any]:
        """Make the function; serve it like any other.

        Args:
            handler: `async def` or `def`, called with the context and the data.

        Returns:
            The SDK's function.

        Raises:
            DeferDefinitionError: the handler takes other arguments, or there is one already.
        """
        if self.function is not None:
            raise DeferDefinitionError(f"deferred function {self.id!r} has a handler already")
        _check_handler(handler, self.id)
        quoted = self.id.replace("\\", r"\\").replace("'", r"\'")
        make = self.client.create_function(
            fn_id=self._fn_id,
            trigger=inngest.TriggerEvent(
                event=DEFERRED_EVENT, expression=f"event.data._inngest.fn_slug == '{quoted}'"
            ),
            **self._options,
        )
        self.function = make(self._wrapped(handler))
        _BY_FUNCTION[self.function] = weakref.ref(self)
        return self.function

    def _wrapped(self, handler: Callable[[Any, DataT], Any]) -> Any:
        if _is_async(handler):

            @functools.wraps(handler)
            async def run_async(ctx: inngest.Context) -> Any:
                return await handler(ctx, self._data(ctx.event))

            wrapped: Any = run_async
        else:

            @functools.wraps(handler)
            def run(ctx: inngest.ContextSync) -> Any:
                return handler(ctx, self._data(ctx.event))

            wrapped = run
        # Otherwise the SDK, and tools that inspect handlers, would see the user's two arguments.
        wrapped.__signature__ = inspect.Signature(
            [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        )
        return wrapped

    def _data(self, event: inngest.Event) -> DataT:
        call = Call.current()
        return self.schema.read(
            event.data, mask_keys=call is not None and call.stack.secret_payloads
        )


@overload
def deferred_function(
    client: inngest.Inngest, *, fn_id: str, schema: type[DataT], **options: Any
) -> DeferredFunction[DataT]: ...
@overload
def deferred_function(
    client: inngest.Inngest, *, fn_id: str, schema: None = None, **options: Any
) -> DeferredFunction[dict[str, Any]]: ...
def deferred_function(
    client: inngest.Inngest, *, fn_id: str, schema: Any = None, **options: Any
) -> DeferredFunction[Any]:
    """Define a function that runs deferred: when the run that deferred it has ended.

    What is returned decorates the handler, and is what `defer` takes. The decorated function is
    an ordinary function of the app: serve it, and give it retries, concurrency and a failure
    handler like any other.

    Args:
        client: the client.
        fn_id: the function's id, as for `client.create_function`.
        schema: the type of its data: a Pydantic model, a dataclass, a TypedDict or anything else
            that Pydantic writes as a JSON object; None for a dict of anything.
        **options: further arguments of `client.create_function`.

    Raises:
        DeferDefinitionError: no client, an option that a deferred function cannot have, an id that
            the client has given to another one, or a schema that Pydantic does not understand.

    Example:
        ```python
        judge = deferred_function(client, fn_id="judge", schema=Verdict)

        @judge
        async def judge_reply(ctx: inngest.Context, verdict: Verdict) -> None: ...
        ```
    """
    for option, why in _REFUSED.items():
        if option in options:
            raise DeferDefinitionError(f"a deferred function has no {option}: {why}")
    given: object = client
    if not isinstance(given, inngest.Inngest):
        raise DeferDefinitionError(
            f"deferred_function takes an inngest.Inngest client, not {class_name(given)}"
        )
    declared = _OF_CLIENT.setdefault(client, weakref.WeakValueDictionary())
    if fn_id in declared:
        raise DeferDefinitionError(f"the app has a deferred function {fn_id!r} already")
    made: DeferredFunction[Any] = DeferredFunction(client, fn_id, schema, options)
    declared[fn_id] = made
    return made


@overload
def deferred_function_by_id(
    *, app_id: str, fn_id: str, schema: type[DataT]
) -> DeferredTarget[DataT]: ...
@overload
def deferred_function_by_id(
    *, app_id: str, fn_id: str, schema: None = None
) -> DeferredTarget[dict[str, Any]]: ...
def deferred_function_by_id(*, app_id: str, fn_id: str, schema: Any = None) -> DeferredTarget[Any]:
    """Name a deferred function of another app, such as one that TypeScript's `createDefer` made.

    This app cannot know whether that app has it.

    Args:
        app_id: the other app's id.
        fn_id: the function's id there.
        schema: the type of its data, as for `deferred_function`.

    Raises:
        DeferDefinitionError: a schema that Pydantic does not understand.
    """
    return DeferredTarget(app_id, fn_id, schema)


def target_of(named: object) -> DeferredTarget[Any] | None:
    """Return the deferred function of a definition or of a decorated function."""
    if isinstance(named, DeferredTarget):
        return named
    found = _BY_FUNCTION.get(named) if isinstance(named, inngest.Function) else None
    return None if found is None else found()


def declared_by(app_ids: set[str]) -> list[DeferredFunction[Any]]:
    """Return all deferred functions that apps have defined."""
    return [
        each
        for client, declared in list(_OF_CLIENT.items())
        if client.app_id in app_ids
        for each in list(declared.values())
    ]


# Weak on both sides: a definition refers to its client, and its function's handler to it.
_BY_FUNCTION: Final[
    weakref.WeakKeyDictionary[inngest.Function[Any], weakref.ref[DeferredFunction[Any]]]
] = weakref.WeakKeyDictionary()
_OF_CLIENT: Final[
    weakref.WeakKeyDictionary[
        inngest.Inngest, weakref.WeakValueDictionary[str, DeferredFunction[Any]]
    ]
] = weakref.WeakKeyDictionary()


def _is_async(handler: Callable[..., Any]) -> bool:
    called = type(handler).__call__ if not inspect.isroutine(handler) else handler
    inner = handler.func if isinstance(handler, functools.partial) else called
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(handler)


def _check_handler(handler: Callable[..., Any], name: str) -> None:
    if not callable(handler):
        raise DeferDefinitionError(
            f"deferred function {name!r}: the handler is a function, not {type(handler).__name__}"
        )
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError:
        raise DeferDefinitionError(
            f"deferred function {name!r}: the handler is called with the context and the data, "
            "as in `async def judge(ctx, verdict)`"
        ) from None
