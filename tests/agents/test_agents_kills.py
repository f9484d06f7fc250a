"""A process that is killed: no call of a model or a tool that was acknowledged is made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.kill_workload import EXPECTED

WORKLOAD = Path(__file__).with_name("kill_workload.py")


def killed(directory: Path, kills: int) -> dict[str, Any]:
    """Run the workload, and give what it says."""
    done = subprocess.run(
        [sys.executable, str(WORKLOAD), str(directory), str(kills)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def check(said: dict[str, Any], kills: int) -> None:
    """Nothing was lost or called again, and all that had to be called was."""
    assert said["problems"] == []
    assert said["kills"] >= kills
    assert said["calls"] >= said["rounds"] * EXPECTED


def test_a_few_kills(tmp_path: Path) -> None:
    """In the default suite."""
    check(killed(tmp_path, 5), 5)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_kills(tmp_path: Path) -> None:
    """At random moments of several runs at once."""
    check(killed(tmp_path, 100), 100)
