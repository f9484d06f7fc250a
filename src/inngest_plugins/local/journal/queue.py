"""The queue of jobs, each with the time when it is due."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import typing
from collections.abc import Callable

JobKind = typing.Literal["edge", "sleep", "wait", "invoke", "missing", "finish", "batch"]


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """One entry of the queue.

    Attributes:
        id: Derived from what the job is for, so that the same thing is never queued twice.
        kind: ``edge`` calls the app; ``sleep`` ends a sleep and calls the app; ``wait`` and
            ``invoke`` are the time limits of such steps; ``missing`` answers an invoke of an
            unknown function; ``finish`` cancels a run that takes too long; ``batch`` closes a
            batch that is not full.
        run_id: The run, or "" for a batch.
        due: Seconds since the epoch.
        target: For ``edge``: the hash to execute, or "step".
        led_by: For calls: the hash of the step whose end led here, or "".
        step: For steps that wait: their hash. For a batch: its key.
        attempt: From 0.
        generation: How often the job was dispatched.
        race: Whether the step belongs to a group in race mode.
    """

    id: str
    kind: JobKind
    run_id: str
    due: float
    target: str = "step"
    led_by: str = ""
    step: str = ""
    attempt: int = 0
    generation: int = 0
    race: bool = False
    version: int = 0


class Queue:
    """Jobs by due time, and by run so that an ending run takes its jobs with it.

    Attributes:
        changed: Called when a job was queued; whoever works on the queue sets it.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._by_run: dict[str, dict[str, Job]] = {}
        self._heap: list[tuple[float, int, int, Job]] = []
        self._sequence = itertools.count()
        self.changed: Callable[[], None] = lambda: None

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> typing.Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        """The job with that id, queued or being worked on."""
        return self._jobs.get(job_id)

    def of_run(self, run_id: str) -> list[Job]:
        """Every job of a run, also those being worked on."""
        return list(self._by_run.get(run_id, {}).values())

    def put(self, job: Job) -> None:
        """Queue a job, or queue it again with another due time."""
        job.version += 1
        self._jobs[job.id] = job
        self._by_run.setdefault(job.run_id, {})[job.id] = job
        heapq.heappush(self._heap, (job.due, next(self._sequence), job.version, job))
        self.changed()

    def put_all_again(self) -> None:
        """Queue every job that is known, also those that somebody stopped working on."""
        for job in self:
            self.put(job)

    def remove(self, job: Job) -> None:
        """Take a job away for good; taking it twice is fine."""
        job.version += 1
        if self._jobs.pop(job.id, None) is None:
            return
        jobs = self._by_run[job.run_id]
        del jobs[job.id]
        if not jobs:
            del self._by_run[job.run_id]

    def next_job(self) -> Job | None:
        """The job that is due next; jobs being worked on do not count."""
        while self._heap:
            _, _, version, job = self._heap[0]
            if job.version == version:
                return job
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> Job | None:
        """Take the next due job out of the order (it stays known until it is removed)."""
        job = self.next_job()
        if job is None or job.due > now:
            return None
        heapq.heappop(self._heap)
        job.version += 1
        return job
