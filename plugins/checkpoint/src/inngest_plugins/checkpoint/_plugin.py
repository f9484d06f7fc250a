"""`CheckpointPlugin`: delivers step results without ending the request."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

import inngest

from inngest_plugins.core import DeliveryRequest, Plugin, RequestDelivery, Stack

from ._delivery import CheckpointDelivery
from ._options import DEFAULT, Default, Duration, checked

logger = logging.getLogger("inngest_plugins.checkpoint")


class CheckpointPlugin(Plugin):
    """Lets a function go on in the same request after a step: n sequential steps are one request.

    The result of a `step.run` or `step.send_event` goes to the engine in a call of its own, and the
    function gets the value that a replay would have given it. Sleeps, waits, invokes, parallel
    groups and errors end the request as usual, and so does the first success of a request that is
    a retry: the engine counts attempts by request.

    A `CheckpointPlugin` in a function's own list takes the place of the client's.

    Args:
        max_runtime: seconds after which a request ends with the step that it is at, as a number or
            a timedelta: 10 over HTTP and 300 over a `connect` worker's connection when not given,
            None for no limit. Stay below the time limit of the platform by the length of your
            longest step.
        buffer: how many results are collected for one call. With 1, the default, no step begins
            before the one before it is stored. With more, a crash can repeat the steps that were
            not sent yet: up to `buffer - 1` that have ended, besides the one that ran.
        max_interval: seconds that a result may wait for others, looked at where a step begins and
            where it ends; None for no limit. With it a crash repeats no step that ended longer ago
            than that when the step that crashed began. Without effect when `buffer` is 1.
        give_up_after: seconds for which a call is tried again while the engine is away; then the
            results that wait end the request as its answer.
        functions: ids of the functions to checkpoint, as given to `create_function` or with the
            app's in front; None for all.
        exclude: ids of functions not to checkpoint.

    Raises:
        CheckpointOptionError: an option has a value that it cannot have.

    Example:
        ```python
        client = inngest.Inngest(app_id="shop", middleware=[CheckpointPlugin()])
        ```
    """

    one_per_list: ClassVar[bool] = True

    def __init__(
        self,
        *,
        max_runtime: Duration | Default | None = DEFAULT,
        buffer: int = 1,
        max_interval: Duration | None = None,
        give_up_after: Duration = 10.0,
        functions: Collection[str] | None = None,
        exclude: Collection[str] = (),
    ) -> None:
        self._options = checked(
            max_runtime, buffer, max_interval, give_up_after, functions, exclude
        )
        self._has_warned = False
        self.delivery = self

    def begin(self, request: DeliveryRequest) -> RequestDelivery | None:
        """Return the delivery of a request; called by the core."""
        if not self._options.covers(request.local_id, request.function_id):
            return None
        if request.attempt > 0:
            # This request is a retry, and the engine counts attempts by request. If it went on, the
            # steps that follow would have fewer attempts than they should.
            return None
        if not request.engine.dispatch.is_known:
            self._warn_once(request)
            return None
        return CheckpointDelivery(self._options, request)

    def _warn_once(self, request: DeliveryRequest) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "function %r is not checkpointed: the request does not say which function it "
                "belongs to (ctx.fn_id). Is the Inngest server older than checkpointing?",
                request.function_id,
            )

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Return a finding for each option that has no effect with the others."""
        del stack
        options = self._options
        if options.interval < math.inf and options.buffer == 1:
            yield "CheckpointPlugin(max_interval=...) has no effect with buffer=1"
        if options.functions is not None and not options.functions - options.exclude:
            yield "CheckpointPlugin(functions=..., exclude=...) leaves no function to checkpoint"

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Return a finding for each option that names a function which the app does not have."""
        known = {each for function in functions for each in (function.id, function.local_id)}
        for option, ids in (
            ("functions", self._options.functions or ()),
            ("exclude", self._options.exclude),
        ):
            for unknown in sorted(set(ids) - known):
                yield (
                    f"CheckpointPlugin({option}=...) names {unknown!r}, and the app has no "
                    "function with that id"
                )
