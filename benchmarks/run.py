"""Run the benchmarks and print one table: `python benchmarks/run.py [name ...]`.

Each row has its aim and whether it is met. The full tables go to `benchmarks/full/NAME.txt`;
`--write` also writes the table and the full ones to `benchmarks/RESULTS.md`. Scripts can be run on
their own as well. `soak.py` takes minutes and is left out unless named; `real_engine.py` needs a
server, in INNGEST_DEV_URL, and PostgreSQL, in BENCH_POSTGRES.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import VARIABLE, Figure, as_markdown, read

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
ORDER = (
    "checkpoint",
    "full_stack",
    "core_overhead",
    "startup",
    "encryption_throughput",
    "validation",
    "metadata_updates",
    "otel_overhead",
    "sentry_request",
    "agents",
    "mirror",
)
"""Whole runs first, then requests, then each plugin; what is not named here comes last."""
NOT_RUN = {"figures", "harness", "run", "soak"}
NEEDS_SERVER = {"real_engine"}


def names() -> list[str]:
    """Return the scripts that are run when none is named."""
    has_server = {"INNGEST_DEV_URL", "BENCH_POSTGRES"} <= os.environ.keys()
    skipped = NOT_RUN if has_server else NOT_RUN | NEEDS_SERVER
    found = {path.stem for path in HERE.glob("*.py")} - skipped
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def measure(name: str, folder: Path) -> tuple[str, list[Figure]] | None:
    """Run one script.

    Args:
        name: of the script.
        folder: where its rows may be put.

    Returns:
        What it printed and its rows, or None if it failed.
    """
    rows = folder / f"{name}.jsonl"
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py")],
        cwd=HERE,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: str(rows)},
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        return None
    return done.stdout.strip("\n"), read(rows)


def write(table: str, tables: dict[str, str]) -> None:
    """Put the table and the full ones into RESULTS.md; tables of scripts that did not run stay."""
    text = RESULTS.read_text("utf-8")
    head, _, rest = text.partition("<!-- table -->")
    old = dict(
        section.split("\n", 1) for section in re.split(r"^## ", rest, flags=re.MULTILINE)[1:]
    )
    new = {name: f"\n```\n{printed}\n```\n\n" for name, printed in tables.items()}
    full = {**old, **new}
    ordered = [*(name for name in ORDER if name in full), *sorted(full.keys() - set(ORDER))]
    sections = "".join(f"## {name}\n{full[name].rstrip()}\n\n" for name in ordered).rstrip()
    RESULTS.write_text(f"{head}<!-- table -->\n\n{table}\n\n{sections}\n", "utf-8")


def main() -> int:
    """Run the named scripts, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    given = parser.parse_args()
    full = HERE / "full"
    full.mkdir(exist_ok=True)
    groups: list[tuple[str, list[Figure]]] = []
    tables: dict[str, str] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or names():
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            measured = measure(name, Path(folder))
            if measured is None:
                failed.append(name)
                continue
            tables[name], rows = measured
            groups.append((name, rows))
            (full / f"{name}.txt").write_text(tables[name] + "\n", "utf-8")
    where = (
        f"{datetime.date.today()}, Python {platform.python_version()}, "
        f"inngest {importlib.metadata.version('inngest')}, {os.cpu_count()} CPUs"
    )
    table = f"{where}\n\n{as_markdown(groups)}"
    print(table)
    if given.write:
        write(table, tables)
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
