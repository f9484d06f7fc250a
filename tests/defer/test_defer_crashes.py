"""A worker that is killed directly after `defer`: none is lost, none is doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kills import run_workload


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [16, pytest.param(100, marks=pytest.mark.slow)])
def test_kills(tmp_path: Path, kills: int) -> None:
    """In the body and in steps, with checkpoints and without, in runs that fail and that do not."""
    result = run_workload("tests.defer.defer_crashes", tmp_path, kills)
    assert result["problems"] == []
    assert result["kills"] >= kills
