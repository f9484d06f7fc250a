"""`DeferPlugin`: no request is answered before the engine has acknowledged its deferrals."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, ClassVar

import inngest

from inngest_plugins.core import Call, Outcome, Plugin

from ._deferrals import DEFERRALS, Deferrals
from ._function import declared_by


class DeferPlugin(Plugin):
    """Lets functions defer others, which run once, when the run has ended.

    It fails closed: a request whose deferrals the engine has not acknowledged fails, and the
    engine tries it again.

    Example:
        ```python
        client = inngest.Inngest(app_id="shop", middleware=[DeferPlugin()])
        ```
    """

    one_per_list: ClassVar[bool] = True

    def transform_input(self, call: Call) -> None:
        """Let the code of this request defer."""
        call[DEFERRALS] = Deferrals(call)

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Keep what a step deferred, and send it first where the step is about to be stored."""
        deferrals = call.get(DEFERRALS)
        if deferrals is None:
            return None
        deferrals.attach_to(outcome)
        if outcome.step is None or outcome.error is not None or call.stack.delivery is None:
            return None
        # A checkpoint stores the step while the request goes on. If the worker is killed after
        # that, the step does not run again, and so cannot defer again.
        return deferrals.send()

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Wait until the engine has acknowledged everything, also when the function failed."""
        deferrals = call.get(DEFERRALS)
        if deferrals is None:
            return None
        deferrals.close()
        return deferrals.send()

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Return a finding for each deferred function that cannot be started."""
        served = {function.id for function in functions}
        apps = {function.id.removesuffix(f"-{function.local_id}") for function in functions}
        for deferred in declared_by(apps):
            if deferred.function is None:
                yield f"deferred function {deferred.id!r} has no handler: it cannot be deferred"
            elif deferred.id not in served:
                yield (
                    f"deferred function {deferred.id!r} is not served: defer(...) refuses it, and "
                    "what other apps defer to it is lost"
                )
