"""Workers are killed: what the engine acknowledged equals the provider's ledger, to the token."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.ai.ai_kill_workload import IN_FLIGHT, RUNS
from tests.ai.ai_provider import Charged
from tests.ai.ai_server import serving
from tests.kills import run_workload

KILLS = 8


def sum_of(calls: list[Charged]) -> Counter[str]:
    """What the ledger says of some calls."""
    return +Counter(
        calls=len(calls),
        input_tokens=sum(one.input_tokens for one in calls),
        output_tokens=sum(one.output_tokens for one in calls),
        cache_read_tokens=sum(one.cached for one in calls),
        reasoning_tokens=sum(one.reasoning for one in calls),
    )


FIGURES = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


def figures(values: dict[str, Any]) -> Counter[str]:
    return +Counter({name: values.get(name, 0) for name in FIGURES})


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpoint"])
def test_what_was_acknowledged_equals_the_ledger(tmp_path: Path, *, checkpoint: bool) -> None:
    """Retries, streams, parallel steps, an invoke; attempts that were killed left nothing."""
    with serving() as server:
        url = f"{server.url}/v1"
        runs = run_workload("tests.ai.ai_kill_workload", tmp_path, url, KILLS, checkpoint)
        ledger = dict(server.by_attempt)
    assert len(runs) == 2 * RUNS
    unknown = set(ledger)
    invoked: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for run in runs:
        assert run["status"] == "Completed"
        unknown -= set(run["attempts"])
        spent = [one for attempt in run["attempts"] for one in ledger.get(attempt, [])]
        engine = figures(run["metadata"].get("run", {}).get("userland.ai", {}))
        assert engine == sum_of(spent), run["id"]
        if run["function"] == "kill-invoked":
            invoked += engine
        for values in run["metadata"].get("run", {}).get("userland.ai.runs", {}).values():
            told += figures(values)
    assert told == invoked
    # Only attempts that a kill interrupted are unknown.
    lives = Counter(int(attempt[1:].partition(":")[0]) for attempt in unknown)
    assert KILLS not in lives
    assert all(count <= RUNS * 2 * IN_FLIGHT for count in lives.values())
