"""Counts at the end: what was lost, doubled, wrong or leaked, traces, and Sentry's events."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.composition.composition_secrets import all_leaks

STEPS = {"reserve", "pack", "label", "number", "mail"}


@dataclass(frozen=True)
class Order:
    """An order that was placed.

    Attributes:
        number: its number.
        event_id: the id of its event.
        name: the customer's, which is the canary.
        declined: whether the bank refuses the card.
    """

    number: str
    event_id: str
    name: str
    declined: bool

    def result(self) -> dict[str, Any]:
        """What its run returns when the card is good."""
        return {
            "order_id": self.number,
            "charge": f"ch_{self.number}",
            "packed": "packed",
            "label": self.name,
            "letter": "Thank you. Your tea is on its way.",
            "invoice": "2580 EUR",
        }

    def effects(self) -> set[str]:
        """The steps that leave a row in the shop's database."""
        return {"reserve", "release"} if self.declined else STEPS


@dataclass
class Report:
    """What a run of the benchmark came to. Lists name the orders or runs that are meant."""

    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    leaked: list[str] = field(default_factory=list[str])
    repeated: int = 0
    traces: Counter[int] = field(default_factory=Counter[int])
    events: Counter[int] = field(default_factory=Counter[int])
    excused: int = 0
    others: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        """The table."""
        lines = [
            f"lost                {len(self.lost)}",
            f"doubled             {len(self.doubled)}",
            f"wrong               {len(self.wrong)}",
            f"leaked              {len(self.leaked)}",
            f"traces a run        {spread(self.traces)}",
            f"events a failure    {spread(self.events)}",
            f"  of something else {sum(self.others.values())}",
            *(f"    {times} times {what}" for what, times in self.others.items()),
            f"  not counted       {self.excused}: Sentry away, or a worker killed within seconds",
            f"step bodies that a killed worker had done, done again: {self.repeated}",
        ]
        for name in ("lost", "doubled", "wrong", "leaked"):
            lines += [f"  {name}: {found}" for found in getattr(self, name)[:10]]
        return "\n".join(lines)

    @property
    def is_good(self) -> bool:
        """Whether everything is as it must be."""
        faults = [*self.lost, *self.doubled, *self.wrong, *self.leaked]
        return (
            not faults and set(self.traces) == {1} and set(self.events) == {1} and not self.others
        )


def spread(counts: Counter[int]) -> str:
    """Say how often a number came up: one number when it is always the same."""
    if len(counts) == 1:
        return f"{next(iter(counts))} ({sum(counts.values())} of them)"
    return ", ".join(f"{number}: {times} times" for number, times in sorted(counts.items()))


def check_runs(
    report: Report, orders: Iterable[Order], runs: Mapping[str, Sequence[Any]], decrypt: Any
) -> None:
    """Compare each order's runs with what they must have come to.

    Args:
        report: where faults go.
        orders: all orders.
        runs: the runs that each order's event has started, as the server's API has them.
        decrypt: opens a sealed value.
    """
    for order in orders:
        ended = [run for run in runs[order.event_id] if run["status"] in ("Completed", "Failed")]
        if not ended:
            report.lost.append(order.number)
        elif len(runs[order.event_id]) > 1:
            report.doubled.append(f"{order.number}: {len(ended)} runs")
        elif ended[0]["status"] != ("Failed" if order.declined else "Completed"):
            report.wrong.append(f"{order.number}: run {ended[0]['run_id']} is {ended[0]['status']}")
        elif not order.declined and decrypt(parsed(ended[0]["output"])) != order.result():
            report.wrong.append(f"{order.number}: another result")


def parsed(output: Any) -> Any:
    """Return an output as the object that it is."""
    return json.loads(output) if isinstance(output, str) else output


def check_effects(
    report: Report,
    orders: Iterable[Order],
    rows: Iterable[Any],
    charges: Mapping[str, Any],
) -> None:
    """Compare the shop's database and the payment provider's books with the orders."""
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["order_id"]].append(row)
        report.repeated += row["times"] - 1
    charged = Counter(charge.order_id for charge in charges.values())
    for order in orders:
        steps = Counter(row["step"] for row in found[order.number])
        if any(times > 1 for times in steps.values()) or charged[order.number] > 1:
            report.doubled.append(f"{order.number}: {dict(steps)}, {charged[order.number]} charges")
        elif set(steps) != order.effects() or charged[order.number] != (not order.declined):
            report.wrong.append(f"{order.number}: {sorted(steps)} done")


def check_traces(report: Report, exports: Iterable[bytes], run_ids: set[str]) -> None:
    """Count the traces that each run's spans are in."""
    traces: dict[str, set[bytes]] = defaultdict(set)
    for export in exports:
        request: Any = ExportTraceServiceRequest.FromString(export)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    for attribute in span.attributes:
                        if attribute.key == "inngest.run.id":
                            traces[attribute.value.string_value].add(span.trace_id)
    report.traces.update(len(traces[run_id]) for run_id in run_ids)


def check_sentry(report: Report, envelopes: Iterable[bytes], failed: Mapping[str, bool]) -> None:
    """Count the errors that Sentry has of each failed run: it stores one event for an id.

    Args:
        report: where the counts go.
        envelopes: what Sentry got.
        failed: the failed runs, and whether Sentry could know: it was there, the worker lived on.
    """
    errors: Counter[str] = Counter()
    stored = {event["event_id"]: event for event in exceptions(envelopes)}
    for event in stored.values():
        run_id = event.get("tags", {}).get("inngest.run.id")
        if run_id in failed:
            errors[run_id] += 1
        else:
            report.others[stranger(event)] += 1
    for run_id, could_know in failed.items():
        if could_know or errors[run_id] == 1:
            report.events[errors[run_id]] += 1
        else:
            report.excused += 1


def stranger(event: Any) -> str:
    """Say what an event that belongs to no failed run is: the error, its logger, its message."""
    error = event["exception"]["values"][-1]
    said = (event.get("logentry") or {}).get("message") or error.get("value") or ""
    return f"{error['type']} {event.get('logger')}: {said.splitlines()[0] if said else ''}"


def exceptions(envelopes: Iterable[bytes]) -> Iterable[Any]:
    """The events in envelopes that are errors with an exception."""
    for envelope in envelopes:
        for line in envelope.split(b"\n"):
            if line.startswith(b"{") and b'"exception"' in line:
                event = json.loads(line)
                if event.get("level") == "error" and "exception" in event:
                    yield event


def check_leaks(report: Report, texts: Iterable[tuple[str, bytes | str]]) -> None:
    """Look for the canary in everything that left the workers."""
    report.leaked.extend(all_leaks(texts))
