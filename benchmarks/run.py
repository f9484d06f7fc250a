"""Run every benchmark and print its table: `python benchmarks/run.py [name ...]`.

Scripts can be run on their own as well. `soak.py` takes minutes and is left out unless named.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_RUN = {"harness", "run", "soak"}


def main() -> int:
    """Run the named scripts, or all."""
    names = sys.argv[1:] or sorted(
        path.stem for path in HERE.glob("*.py") if path.stem not in NOT_RUN
    )
    print(f"Python {platform.python_version()}, {platform.machine()}", flush=True)
    failed: list[str] = []
    for name in names:
        print(f"\n===== {name}", flush=True)
        script = HERE / f"{name}.py"
        if subprocess.run([sys.executable, str(script)], cwd=HERE, check=False).returncode:
            failed.append(name)
    if failed:
        print("failed: " + ", ".join(failed))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
