"""What injection costs a request, and a step that asks for one service.

Run: python benchmarks/injection.py
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import svcs
from figures import figure
from harness import Variant, measure, requester, table

from inngest_plugins.core import Call, Outcome, Plugin, Step
from inngest_plugins.injection import InjectionPlugin, aget


class Session:
    """What is opened and closed."""


def open_session() -> Iterator[Session]:
    yield Session()


class SameHooks(Plugin):
    """Has the hooks that injection has, and does nothing in them."""

    def transform_input(self, call: Call) -> None:
        pass

    def around_step(self, call: Call, step: Step) -> Any:
        return contextlib.nullcontext()

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        pass


def plugin() -> InjectionPlugin:
    registry = svcs.Registry()
    registry.register_factory(Session, open_session)
    return InjectionPlugin(registry)


async def asks() -> None:
    await aget(Session)


async def by_hand() -> None:
    with contextlib.contextmanager(open_session)():
        pass


def main() -> None:
    same = "a plugin with the same hooks"
    for memos in (0, 100):
        medians = measure(
            [
                Variant("bare SDK", requester([], memos)),
                Variant(same, requester([SameHooks()], memos)),
                Variant("injection, nothing asked for", requester([plugin()], memos)),
            ],
            rounds=20,
            calls=50 if memos == 0 else 10,
        )
        table(f"{memos} memoized steps and a new one", medians, base=same)
        ratio = medians["injection, nothing asked for"] / medians[same]
        figure(f"{memos} memoized steps, nothing asked for: injection / an empty plugin", ratio)
    medians = measure(
        [
            Variant("opened by hand", requester([SameHooks()], 0, step=by_hand)),
            Variant("aget(Session)", requester([plugin()], 0, step=asks)),
        ],
        rounds=20,
    )
    table("A step with one service", medians, base="opened by hand")
    ratio = medians["aget(Session)"] / medians["opened by hand"]
    figure("a step with one service: `aget` / opened by hand", ratio)


main()
