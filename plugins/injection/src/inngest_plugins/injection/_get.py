"""`get` and `aget`: functions, steps and hooks get services."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from typing_extensions import TypeForm

from ._current import current_scope

T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T7 = TypeVar("T7")
T8 = TypeVar("T8")
T9 = TypeVar("T9")
T10 = TypeVar("T10")


@overload
def get(s1: TypeForm[T1], /) -> T1: ...
@overload
def get(s1: TypeForm[T1], s2: TypeForm[T2], /) -> tuple[T1, T2]: ...
@overload
def get(s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], /) -> tuple[T1, T2, T3]: ...
@overload
def get(
    s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], s4: TypeForm[T4], /
) -> tuple[T1, T2, T3, T4]: ...
@overload
def get(
    s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], s4: TypeForm[T4], s5: TypeForm[T5], /
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
def get(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
def get(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7]: ...
@overload
def get(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8]: ...
@overload
def get(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    s9: TypeForm[T9],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8, T9]: ...
@overload
def get(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    s9: TypeForm[T9],
    s10: TypeForm[T10],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8, T9, T10]: ...


def get(*services: Any) -> Any:
    """Return services, opened now where they are not open yet.

    In a step the services are the step's: they are closed when its handler ends. In the function's
    body and in hooks they are the request's. Works wherever the run's context is: in what the code
    calls, in tasks, and in threads that were started with a copy of the context.

    Args:
        *services: the types that the services are registered for, up to ten.

    Returns:
        The service; for several types a tuple of services.

    Raises:
        InjectionContextError: this code is not in a run, or the app has no `InjectionPlugin`.
        UnregisteredServiceError: nothing is registered for a type.
        AsyncServiceError: a factory is async: use `aget`.
        ScopeEndedError: the step or the request has ended.
    """
    found = current_scope(services, "get").get(services)
    return found[0] if len(services) == 1 else found


@overload
async def aget(s1: TypeForm[T1], /) -> T1: ...
@overload
async def aget(s1: TypeForm[T1], s2: TypeForm[T2], /) -> tuple[T1, T2]: ...
@overload
async def aget(s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], /) -> tuple[T1, T2, T3]: ...
@overload
async def aget(
    s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], s4: TypeForm[T4], /
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def aget(
    s1: TypeForm[T1], s2: TypeForm[T2], s3: TypeForm[T3], s4: TypeForm[T4], s5: TypeForm[T5], /
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def aget(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
async def aget(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7]: ...
@overload
async def aget(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8]: ...
@overload
async def aget(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    s9: TypeForm[T9],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8, T9]: ...
@overload
async def aget(
    s1: TypeForm[T1],
    s2: TypeForm[T2],
    s3: TypeForm[T3],
    s4: TypeForm[T4],
    s5: TypeForm[T5],
    s6: TypeForm[T6],
    s7: TypeForm[T7],
    s8: TypeForm[T8],
    s9: TypeForm[T9],
    s10: TypeForm[T10],
    /,
) -> tuple[T1, T2, T3, T4, T5, T6, T7, T8, T9, T10]: ...


async def aget(*services: Any) -> Any:
    """Return services as `get` does, from sync and async factories.

    In an `async def` hook of a sync function async factories are refused: a sync function cannot
    close what they open.

    Args:
        *services: the types that the services are registered for, up to ten.

    Returns:
        The service; for several types a tuple of services.

    Raises:
        InjectionContextError: this code is not in a run, or the app has no `InjectionPlugin`.
        UnregisteredServiceError: nothing is registered for a type.
        AsyncServiceError: a factory is async and the function is not.
        ScopeEndedError: the step or the request has ended.
    """
    found = await current_scope(services, "aget").aget(services)
    return found[0] if len(services) == 1 else found
