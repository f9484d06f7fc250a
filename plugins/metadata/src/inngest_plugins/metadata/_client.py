"""`MetadataClient`: writes metadata of any run from a web handler, a script or a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import inngest

from inngest_plugins.core import ArgumentError

from ._changes import StepRef
from ._errors import MetadataSendError
from ._keys import check_run_id, wire_kind
from ._live import Snapshot, subscribe, subscribe_stream
from ._operations import Operation
from ._sender import Sender, Target, Updates
from ._values import Json, Limits, checked_limits
from ._writes import Writes

if TYPE_CHECKING:
    from inngest_plugins.core import MessageSource


class MetadataClient:
    """Writes to the metadata of any run, from a web handler, a script or another service.

    Example:
        ```python
        runs = MetadataClient(client)
        await runs.run(run_id).set("reviewed", True).increment("reviews").send()
        runs.run(run_id).step("import").set("note", "checked").send_sync()
        ```

    Args:
        client: whose engine, with whose credentials.
        limits: sizes to keep.
        timeout: seconds that one request may take.
    """

    def __init__(
        self, client: inngest.Inngest, *, limits: Limits | None = None, timeout: float = 5.0
    ) -> None:
        given: object = client
        if not isinstance(given, inngest.Inngest):
            raise ArgumentError(
                f"MetadataClient takes an inngest.Inngest, not {type(given).__name__}"
            )
        self._client = client
        self._limits = checked_limits("MetadataClient", limits, timeout)
        self._timeout = timeout

    def run(self, run_id: str, *, kind: str | None = None) -> PendingMetadata:
        """Begin writes to a run; nothing is sent before `send` or `send_sync`.

        Args:
            run_id: a ULID.
            kind: the namespace.

        Raises:
            MetadataKeyError: `run_id` is not a ULID, or the kind is none.
        """
        return PendingMetadata(
            self._client,
            Updates(self._limits),
            Target(check_run_id(run_id)),
            kind,
            limits=self._limits,
            timeout=self._timeout,
        )

    def subscribe(
        self, run_id: str, *, source: MessageSource | None = None
    ) -> AsyncIterator[Snapshot]:
        """Follow a run's metadata; see the module's `subscribe`."""
        return subscribe(run_id, client=self._client, source=source)

    def subscribe_stream(
        self, run_id: str, name: str, *, source: MessageSource | None = None
    ) -> AsyncIterator[Json]:
        """Follow a run's stream; see the module's `subscribe_stream`."""
        return subscribe_stream(run_id, name, client=self._client, source=source)


class PendingMetadata(Writes):
    """Writes to one run that are sent together.

    The engine takes whole top-level keys: `set`, `update`, `delete`, `increment` and `replace`.
    `append`, `remove` and paths into nested values are refused with `MetadataTargetError`, because
    two writers would overwrite one another.
    """

    def __init__(
        self,
        client: inngest.Inngest,
        updates: Updates,
        target: Target,
        kind: str | None,
        *,
        limits: Limits,
        timeout: float,
    ) -> None:
        super().__init__(kind)
        self._client = client
        self._updates = updates
        self._target = target
        self._limits = limits
        self._timeout = timeout

    def step(self, step_id: str, index: int = 0, *, kind: str | None = None) -> PendingMetadata:
        """Choose a step of the run. `send` sends its writes along with the rest.

        Args:
            step_id: the step's id.
            index: which use of the id in the function, from 0.
            kind: the namespace.

        Raises:
            MetadataKeyError: `step_id` is no str, or `index` no whole number from 0.
        """
        return PendingMetadata(
            self._client,
            self._updates,
            Target(self._target.run_id, StepRef.named(step_id, index)),
            self._kind if kind is None else kind,
            limits=self._limits,
            timeout=self._timeout,
        )

    async def send(self) -> None:
        """Send everything, one request for the run and one for each step.

        Raises:
            MetadataSendError: some of it did not arrive. What did not is kept, so that `send` can
                be called again; increments are not kept when they may have arrived.
        """
        # Imported on first use: many programs never need it (see benchmarks/startup.py).
        import anyio.to_thread

        await anyio.to_thread.run_sync(self.send_sync)

    def send_sync(self) -> None:
        """Send everything; `send` for sync code."""
        sender = Sender(self._limits, self._timeout)
        updates = Updates(self._limits)
        updates.follow(self._updates)
        self._updates.clear()
        problems = sender.deliver(self._client, updates, run_id=None, ended=True)
        if problems:
            self._updates.follow(sender.left(self._client))
            raise MetadataSendError(f"metadata of run {self._target.run_id}: {'; '.join(problems)}")

    def _record(self, kind: str, operations: Sequence[Operation]) -> None:
        wire = wire_kind(kind, self._limits.kind_bytes)
        self._updates.to(self._target, wire).write(operations)
