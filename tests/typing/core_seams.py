"""What a type checker makes of the hooks' seams: checked, not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import inngest
from typing_extensions import assert_type

from inngest_plugins.core import (
    Answer,
    AroundBranch,
    Call,
    Hooks,
    Layer,
    MemoError,
    ParallelGroup,
    Plugin,
    Step,
)


def double(number: int) -> int:
    return number * 2


async def double_later(number: int) -> int:
    return number * 2


class Doubles(Plugin):
    layer = Layer.CONTEXT

    def transform_input(self, call: Call) -> None:
        @contextlib.contextmanager
        def around_group(group: ParallelGroup) -> Iterator[AroundBranch]:
            assert_type(group.place, tuple[int, ...])
            assert_type(group.is_race, bool)

            def around_branch(number: int) -> contextlib.AbstractContextManager[None]:
                return contextlib.nullcontext()

            yield around_branch

        call.around_groups(around_group)
        call.around_groups(double)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def answer_step(self, call: Call, step: Step) -> Answer | None:
        assert_type(step.args, tuple[Any, ...])
        assert_type(step.function, inngest.Function[Any] | None)
        assert_type(call.failed_step(ValueError()), str | None)
        if step.function is not None:
            return Answer(handler=double)
        return Answer(handler=double_later) if step.args else Answer(error=ValueError("no"))


hooks = Hooks("doubles")


@hooks.answer_step
async def answer(call: Call, step: Step) -> Answer | None:
    return Answer({"id": step.id})


@hooks.answer_step  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
def wrong(call: Call, step: Step) -> MemoError:
    return MemoError("m", "E")


Answer(handler=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
