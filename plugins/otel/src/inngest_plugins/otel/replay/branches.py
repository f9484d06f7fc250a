"""Telling the branches of a `group.parallel` apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from opentelemetry import context as context_api

from inngest_plugins.core import AroundBranch, Call, ParallelGroup
from inngest_plugins.otel.replay.boundary import ReplayBoundary


def follow_branches(call: Call, boundary: ReplayBoundary) -> None:
    """Report the groups and branches that this request's function enters.

    Args:
        call: the request.
        boundary: what to report to.
    """
    call.around_groups(partial(_around_group, boundary))


@contextmanager
def _around_group(boundary: ReplayBoundary, group: ParallelGroup) -> Iterator[AroundBranch]:
    with boundary.group(race=group.is_race) as branch:

        @contextmanager
        def around_branch(number: int) -> Iterator[None]:
            del number
            with branch(), _own_context():
                yield

        yield around_branch


@contextmanager
def _own_context() -> Iterator[None]:
    """Keep spans that a branch leaves current, such as that of an async generator, out of others.

    The SDK runs branches one after the other in the same context.
    """
    token = context_api.attach(context_api.get_current())
    try:
        yield
    finally:
        context_api.detach(token)
