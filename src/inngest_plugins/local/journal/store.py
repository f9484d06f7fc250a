"""The engine's state: runs, queue, batches and received events, written through to the journal."""

from __future__ import annotations

import dataclasses
import typing

from .journal import Journal
from .queue import Job, Queue
from .state import DeferState, RequestState, RunState, StepState

_ELSEWHERE = frozenset(
    {
        *("steps", "stack", "memo_bytes", "requests", "defers"),
        *("events_sent", "sent_at", "metadata", "metadata_bytes"),
    }
)
"""What grows with a run is in documents of its own, so that a step costs the same late in a run."""

_RUN_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(RunState)
    if field.name not in _ELSEWHERE and field.name != "pending"
)
_REQUEST_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(RequestState)
    if field.name not in ("request_bytes", "response_bytes")
)
_STEP_FIELDS = tuple(field.name for field in dataclasses.fields(StepState))
_JOB_FIELDS = tuple(field.name for field in dataclasses.fields(Job) if field.name != "version")


@dataclasses.dataclass(slots=True)
class ReceivedEvent:
    """An event as it came in, who sent it (a run's id, if known), and what it started."""

    internal_id: str
    event: str
    received_at: float
    sender: str | None = None
    runs: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass(slots=True)
class OpenBatch:
    """Events that wait for their batch to be full.

    Attributes:
        key: Names the batch and its timer job; at most one batch is open under a key.
        function_id: Whose batch it is.
        events: As wire JSON.
        received: Internal ids of those events that came in from outside.
        trace_id: See `RunState.trace_id`.
    """

    key: str
    function_id: str
    events: list[str] = dataclasses.field(default_factory=list[str])
    received: list[str] = dataclasses.field(default_factory=list[str])
    trace_id: str = ""


class Store:
    """Every change goes through a ``save_*`` method and becomes permanent with `commit`.

    Attributes:
        runs: By run id, oldest first.
        open_runs: Ids of the runs that have not ended, by function id.
        waits: Steps that wait for an event: event name to ``(run id, hash)``.
        signals: Steps that wait for a signal: its name to ``(run id, hash)``; one step at a time.
        events: Received events by internal id.
        batches: Open batches by key.
        used_keys: Event ids and idempotency keys that may not start a function again, with the
            time at which they were used.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.runs: dict[str, RunState] = {}
        self.queue = Queue()
        self.open_runs: dict[str, dict[str, None]] = {}
        self.waits: dict[str, dict[tuple[str, str], None]] = {}
        self.signals: dict[str, tuple[str, str]] = {}
        self.events: dict[str, ReceivedEvent] = {}
        self.batches: dict[str, OpenBatch] = {}
        self.used_keys: dict[str, float] = {}
        self._load()

    @property
    def is_durable(self) -> bool:
        """Whether the state survives the process."""
        return self._journal.is_durable

    def commit(self) -> None:
        """Make everything since the last commit permanent, together."""
        self._journal.commit()

    def close(self) -> None:
        """Give the journal back."""
        self._journal.close()

    def claim_app(self, app_id: str) -> str:
        """Bind a new journal to the app; returns the app that the journal belongs to."""
        for _, owner in self._journal.load("app"):
            return str(owner)
        self._journal.put("app", "id", app_id)
        self.commit()
        return app_id

    def add_run(self, run: RunState) -> None:
        """Take in a new run."""
        self.runs[run.id] = run
        self.open_runs.setdefault(run.function_id, {})[run.id] = None
        self.save_run(run)

    def save_run(self, run: RunState) -> None:
        """The run's own fields changed (not its steps, requests, events or metadata)."""
        if not run.is_open:
            self.open_runs.get(run.function_id, {}).pop(run.id, None)
        if self._journal.is_durable:
            document = {name: getattr(run, name) for name in _RUN_FIELDS}
            document["pending"] = sorted(run.pending)
            self._journal.put("run", run.id, document)

    def save_step(self, run: RunState, step: StepState) -> None:
        """A step is new or changed."""
        run.steps[step.hashed_id] = step
        if self._journal.is_durable:
            document = {name: getattr(step, name) for name in _STEP_FIELDS}
            self._journal.put("step", f"{run.id}/{step.hashed_id}", document)

    def save_metadata(self, run: RunState, target: str) -> None:
        """The metadata of a run's target changed."""
        document = {"kinds": run.metadata[target], "bytes": run.metadata_bytes}
        self._journal.put("metadata", f"{run.id}/{target}", document)

    def save_request(self, run: RunState, request: RequestState) -> None:
        """A request got its answer; one without is simply sent again after a crash."""
        if self._journal.is_durable:
            document = {name: getattr(request, name) for name in _REQUEST_FIELDS}
            document["request"] = request.request_bytes.decode("utf-8", "replace")
            document["response"] = request.response_bytes.decode("utf-8", "replace")
            self._journal.put("request", f"{run.id}/{request.number:06}", document)

    def put_job(self, job: Job) -> None:
        """Queue a job, or queue it again."""
        self.queue.put(job)
        self.save_job(job)

    def save_job(self, job: Job) -> None:
        """A job's fields changed while it stays where it is."""
        if self._journal.is_durable:
            self._journal.put("job", job.id, {name: getattr(job, name) for name in _JOB_FIELDS})

    def remove_job(self, job: Job) -> None:
        """A job is done or no longer wanted."""
        self.queue.remove(job)
        self._journal.delete("job", job.id)

    def save_defer(self, run: RunState, deferred: DeferState) -> None:
        """A run deferred a function, or one of its deferred functions changed."""
        run.defers[deferred.hashed_id] = deferred
        if self._journal.is_durable:
            key = f"{run.id}/{deferred.hashed_id}"
            self._journal.put("defer", key, dataclasses.asdict(deferred))

    def add_wait(self, run: RunState, step: StepState) -> None:
        """A step waits for an event or a signal; the journal knows it from the step."""
        key = (run.id, step.hashed_id)
        if step.op == "WaitForSignal":
            self.signals[step.opts["signal"]] = key
        else:
            self.waits.setdefault(step.opts["event"], {})[key] = None

    def remove_wait(self, run: RunState, step: StepState) -> None:
        """The step waits no longer."""
        key = (run.id, step.hashed_id)
        if step.op == "WaitForSignal":
            if self.signals.get(step.opts["signal"]) == key:
                del self.signals[step.opts["signal"]]
            return
        waiting = self.waits.get(step.opts["event"])
        if waiting is not None:
            waiting.pop(key, None)
            if not waiting:
                del self.waits[step.opts["event"]]

    def save_event(self, received: ReceivedEvent) -> None:
        """An event came in, or started one more run."""
        self.events[received.internal_id] = received
        if self._journal.is_durable:
            self._journal.put("event", received.internal_id, dataclasses.asdict(received))

    def save_batch(self, batch: OpenBatch) -> None:
        """A batch is new or got one more event."""
        self.batches[batch.key] = batch
        if self._journal.is_durable:
            self._journal.put("batch", batch.key, dataclasses.asdict(batch))

    def remove_batch(self, batch: OpenBatch) -> None:
        """The batch has become a run."""
        self.batches.pop(batch.key, None)
        self._journal.delete("batch", batch.key)

    def use_key(self, key: str, now: float, lifetime: float) -> bool:
        """Claim an idempotency key; False when it was claimed within ``lifetime`` seconds."""
        used = self.used_keys.get(key)
        if used is not None and now - used < lifetime:
            return False
        self.used_keys[key] = now
        self._journal.put("key", key, now)
        return True

    def _load(self) -> None:
        load = self._journal.load
        for run_id, document in load("run"):
            self._load_run(run_id, document)
        for key, document in load("defer"):
            deferred = DeferState(**document)
            self._run_of(key).defers[deferred.hashed_id] = deferred
        self._load_steps()
        self._load_requests()
        for key, document in load("metadata"):
            run = self._run_of(key)
            run.metadata[key.partition("/")[2]] = document["kinds"]
            run.metadata_bytes = max(run.metadata_bytes, document["bytes"])
        for _, document in load("job"):
            self.queue.put(Job(**document))
        for key, document in load("event"):
            received = self.events[key] = ReceivedEvent(**document)
            if received.sender is not None:
                self.runs[received.sender].take_event(received.event, received.received_at)
        self.batches = {key: OpenBatch(**document) for key, document in load("batch")}
        self.used_keys = dict(load("key"))

    def _run_of(self, key: str) -> RunState:
        """The run of a document whose key begins with the run's id."""
        return self.runs[key.partition("/")[0]]

    def _load_steps(self) -> None:
        for key, document in self._journal.load("step"):
            run, step = self._run_of(key), StepState(**document)
            run.steps[step.hashed_id] = step
            if step.status == "Waiting" and run.is_open:
                self.add_wait(run, step)
        for run in self.runs.values():
            ended = [step for step in run.steps.values() if step.position is not None]
            for step in sorted(ended, key=lambda step: step.position or 0):
                run.take_memo(step)

    def _load_requests(self) -> None:
        for key, document in self._journal.load("request"):
            self._run_of(key).requests.append(_request(document))
        for run in self.runs.values():
            run.requests.sort(key=lambda request: request.number)

    def _load_run(self, run_id: str, document: dict[str, typing.Any]) -> None:
        pending: list[str] = document.pop("pending")
        parent: list[str] | None = document.pop("parent")
        run = RunState(
            **document, pending=set(pending), parent=(parent[0], parent[1]) if parent else None
        )
        self.runs[run_id] = run
        if run.is_open:
            self.open_runs.setdefault(run.function_id, {})[run_id] = None


def _request(document: dict[str, typing.Any]) -> RequestState:
    request: str = document.pop("request")
    response: str = document.pop("response")
    return RequestState(
        **document, request_bytes=request.encode(), response_bytes=response.encode()
    )
