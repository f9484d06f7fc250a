"""A process that is killed at any moment: what was acknowledged never runs again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKLOAD = Path(__file__).parent / "checkpoint_crashes.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("buffer", [1, 4])
def test_a_hundred_kills(tmp_path: Path, buffer: int) -> None:
    """With a journal no acknowledged step runs again; a kill repeats `buffer` steps of a run."""
    done = subprocess.run(
        [sys.executable, str(WORKLOAD), str(tmp_path), "100", str(buffer)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["problems"] == []
    assert result["kills"] >= 100
    # Kills hit steps that ran, and not only an engine that was starting.
    assert result["most_repeated"] > 0
