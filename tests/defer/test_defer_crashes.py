"""A worker that is killed directly after `defer`: none is lost, none is doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKLOAD = Path(__file__).parent / "defer_crashes.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [16, pytest.param(100, marks=pytest.mark.slow)])
def test_kills(tmp_path: Path, kills: int) -> None:
    """In the body and in steps, with checkpoints and without, in runs that fail and that do not."""
    done = subprocess.run(
        [sys.executable, str(WORKLOAD), str(tmp_path), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["problems"] == []
    assert result["kills"] >= kills
