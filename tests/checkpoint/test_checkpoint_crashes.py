"""A process that is killed at any moment: what was acknowledged never runs again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kills import run_workload


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("buffer", [1, 4])
def test_a_hundred_kills(tmp_path: Path, buffer: int) -> None:
    """With a journal no acknowledged step runs again; a kill repeats `buffer` steps of a run."""
    result = run_workload("tests.checkpoint.checkpoint_crashes", tmp_path, 100, buffer)
    assert result["problems"] == []
    assert result["kills"] >= 100
    # Kills hit steps that ran, and not only an engine that was starting.
    assert result["most_repeated"] > 0
