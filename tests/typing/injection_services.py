"""What type checkers infer of services. Checked by mypy and pyright, never run."""

from typing import NewType, Protocol

import svcs
from typing_extensions import assert_type

from inngest_plugins.injection import InjectionPlugin, aget, get

Key = NewType("Key", str)


class Session: ...


class Clock(Protocol):
    def now(self) -> float: ...


def sync_code() -> None:
    assert_type(get(Session), Session)
    assert_type(get(Session, Clock), tuple[Session, Clock])
    assert_type(get(Key), Key)


async def async_code() -> None:
    assert_type(await aget(Session), Session)
    session, clock, key = await aget(Session, Clock, Key)
    assert_type(session, Session)
    assert_type(clock.now(), float)
    assert_type(key, Key)


InjectionPlugin(svcs.Registry())
InjectionPlugin({})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
get()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
