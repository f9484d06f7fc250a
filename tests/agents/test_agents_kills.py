"""A process that is killed: no call of a model or a tool that was acknowledged is made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agents.kill_workload import EXPECTED
from tests.kills import run_workload


def check(directory: Path, kills: int) -> None:
    """Nothing is lost or called again, and all that has to be called is."""
    said = run_workload("tests.agents.kill_workload", directory, kills)
    assert said["problems"] == []
    assert said["kills"] >= kills
    assert said["calls"] >= said["rounds"] * EXPECTED


def test_a_few_kills(tmp_path: Path) -> None:
    """In the default suite."""
    check(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_kills(tmp_path: Path) -> None:
    """At random moments of several runs at once."""
    check(tmp_path, 100)
