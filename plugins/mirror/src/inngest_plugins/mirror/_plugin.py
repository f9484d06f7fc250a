"""`MirrorPlugin`: each request writes all that it knows of its run before it is answered."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from inngest_plugins.core import (
    ArgumentError,
    Call,
    CallKey,
    HealthCheck,
    Layer,
    Outcome,
    Plugin,
    Step,
    check_function,
    check_seconds,
    class_name,
    printable,
)

from ._fields import Redact, stored_fields
from ._record import RECORDS, RunRecord
from ._writer import ReportWriter
from .store.store import SQLAlchemyStore
from .store.values import is_kept

_logger = logging.getLogger("inngest_plugins.mirror")

Tenant = Callable[[Call], "str | None"]
Tags = Callable[[Call], "Mapping[str, str] | None"]


class MirrorPlugin(Plugin):
    """Writes runs, steps and attempts to a database of the team's own.

    Each request writes all that it knows of its run, in one transaction and before it is answered.
    A request that takes longer than half a second is also written while it runs. Nothing that
    happens here changes a run: a database that is down or slow is logged once, costs a request
    `timeout` at most, and the store writes what it missed when it works again.

    Args:
        store: the database.
        tenant: returns the run's tenant from the request, or None. It is called once a request,
            when the event is in plaintext. The first answer for a run stands. When it raises, or
            gives more than 255 characters, the run has no tenant.
        tags: returns names and values to find the run by.
        store_fields: the parts of payloads to store, such as "event.order_id" (of the event's
            data), "output.total" (of what the function returned) or "step.amount" (of what any
            step returned). Nothing else of a payload is stored.
        redact: called with a field's name and value, returns what is stored in its place. When it
            raises, the field is not stored.
        timeout: seconds that a write may take.
        keep: how many reports are kept in memory while the database is away; the oldest goes first.

    Raises:
        ArgumentError: the store is not one, an option is of the wrong type, or `timeout` or `keep`
            is not a positive number.
        MirrorError: a name in `store_fields` names no place.
    """

    layer = Layer.OBSERVE
    name = "mirror"

    def __init__(
        self,
        store: SQLAlchemyStore,
        *,
        tenant: Tenant | None = None,
        tags: Tags | None = None,
        store_fields: Iterable[str] = (),
        redact: Redact | None = None,
        timeout: float = 0.25,
        keep: int = 1000,
    ) -> None:
        if not isinstance(store, SQLAlchemyStore):
            raise ArgumentError(f"MirrorPlugin needs a SQLAlchemyStore, not {class_name(store)}")
        for name, function in (("tenant", tenant), ("tags", tags)):
            if function is not None:
                check_function(f"MirrorPlugin({name}=...)", function, "a function of the call")
        check_seconds("MirrorPlugin(timeout=...)", timeout)
        if isinstance(keep, bool) or not isinstance(keep, int):
            raise ArgumentError("MirrorPlugin(keep=...) is not a number of reports")
        if keep < 1:
            raise ArgumentError(f"MirrorPlugin(keep={keep!r}) is not a number above 0")
        self.store = store
        self._tenant = tenant
        self._tags = tags
        self._fields = stored_fields(store_fields, redact)
        self._writer = ReportWriter(store, timeout, limit=keep)
        self._record = CallKey[RunRecord]("mirror.record")
        self._complained: set[str] = set()

    def transform_input(self, call: Call) -> None:
        """Begin to record what this request learns."""
        run_id = call.run_id
        call[self._record] = record = RunRecord(
            call, self._fields, lambda hashed_id: self._writer.written.has(run_id, hashed_id)
        )
        call[RECORDS] = [*call.get(RECORDS, []), record]

    def before_memoization(self, call: Call) -> None:
        """Call the user's functions for tenant and tags: the event is in plaintext now."""
        record = call[self._record]
        record.tenant = self._call_user("tenant", self._tenant, call, _tenant_of)
        record.tags = self._call_user("tags", self._tags, call, _tags_of) or {}
        record.note_event()
        call.enter(contextlib.closing(record))
        self._writer.show_meanwhile(record)

    def _call_user(
        self,
        name: str,
        function: Callable[[Call], Any] | None,
        call: Call,
        read: Callable[[Any], Any],
    ) -> Any:
        """Call a function of the user; an exception is logged once."""
        if function is None:
            return None
        try:
            return read(function(call))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as err:
            if name not in self._complained:
                self._complained.add(name)
                _logger.warning(
                    "MirrorPlugin: %s raised %s: such runs have none (first: run %s)",
                    name,
                    class_name(err),
                    printable(call.run_id),
                )
            return None

    def step_reached(self, call: Call, step: Step) -> None:
        """Note a step, memoized or not."""
        call[self._record].note_step(step)

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Note how a step or the function ended, as the engine will see it."""
        record = call.get(self._record)
        if record is None:
            # Middleware ahead of the stack refused the request.
            self.transform_input(call)
            record = call[self._record]
        record.note_outcome(outcome)

    def step_delivered(self, call: Call, step: Step) -> None:
        """Note that the step is stored, so that attempts are counted from 0 again."""
        call[self._record].note_delivered()

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Write the report of this request."""
        record = call.get(self._record)
        if record is None:
            return None
        record.close()
        report = record.report()
        if call.is_async:
            return self._writer.write(report)
        self._writer.write_sync(report)
        return None

    def health_checks(self) -> Iterable[HealthCheck]:
        """Whether the database answers and has the tables."""
        return (HealthCheck(f"mirror database {self.store.label}", self.store.check),)


def _tenant_of(answer: Any) -> str | None:
    if answer is not None and not isinstance(answer, str):
        raise TypeError
    # Cut to what a column holds it could be another's name.
    if answer and not is_kept(answer):
        raise ValueError
    return answer or None


def _tags_of(answer: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in dict(answer or {}).items()}


def log(message: str, *, level: str = "INFO") -> None:
    """Add a line to the mirror's log of the current run; outside of a mirrored run it does nothing.

    A line of a step belongs to the step's attempt. A line of the function's body is stored once
    however often the body is replayed. The text is stored as it is, also where payloads are secret.

    Args:
        message: the text, of which 4,000 characters are stored.
        level: such as "INFO" or "WARNING".
    """
    call = Call.current()
    for record in () if call is None else call.get(RECORDS, ()):
        record.add_line(message, level)
