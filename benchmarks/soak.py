"""All five plugins for minutes: memory must stay flat.

Runs waves of the one app of `load.py`, each on an engine of its own, for as long as asked
(`--seconds`, ten minutes by default), and prints the process's memory as it goes. Exit code 1 when
a result was wrong, or when the last third of the waves needed more memory than the third before
by more than `--slack` MiB. Not part of CI.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time

from load import load, resident, start

MIB = 2**20


async def main(seconds: float, runs: int, slack: float) -> int:
    made = start()
    until = time.monotonic() + seconds
    memory: list[float] = []
    wrong = waves = 0
    while time.monotonic() < until:
        done = await load(made, runs)
        gc.collect()
        waves += 1
        wrong += done.wrong
        memory.append(resident() / MIB)
        print(
            f"  wave {waves}: {done.runs} runs, {done.wrong} wrong, {done.seconds:.1f} s, "
            f"{memory[-1]:.1f} MiB",
            flush=True,
        )
    third = max(len(memory) // 3, 1)
    middle = statistics.median(memory[-2 * third : -third] or memory)
    last = statistics.median(memory[-third:])
    print(f"{waves} waves, {wrong} wrong results; memory {middle:.1f} -> {last:.1f} MiB")
    return bool(wrong or last > middle + slack)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--runs", type=int, default=100, help="runs in a wave")
    parser.add_argument("--slack", type=float, default=3.0, help="MiB that do not count as growth")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.seconds, given.runs, given.slack)))
