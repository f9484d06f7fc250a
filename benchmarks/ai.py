"""What counting model calls costs a request, and a step that records one call.

Run: python benchmarks/ai.py
"""

from __future__ import annotations

import contextlib
from typing import Any

from figures import figure
from harness import Variant, measure, requester, table

from inngest_plugins.ai import AIPlugin, Budget, Price, usage
from inngest_plugins.core import Call, Outcome, Plugin, Step

PRICES = {"m": Price(input=1, output=2)}


class SameHooks(Plugin):
    """Has the hooks that counting has, and does nothing in them."""

    def transform_input(self, call: Call) -> None:
        pass

    def step_reached(self, call: Call, step: Step) -> None:
        pass

    def transform_memo(self, call: Call, step: Step) -> None:
        pass

    def around_step(self, call: Call, step: Step) -> Any:
        return contextlib.nullcontext()

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        pass

    def before_response(self, call: Call) -> None:
        pass


async def nothing() -> None:
    pass


async def records() -> None:
    usage.record(model="m", input_tokens=1000, output_tokens=100)


async def records_by_the_table() -> None:
    usage.record(model="gpt-5", provider="openai", input_tokens=1000, output_tokens=100)


def main() -> None:
    same = "a plugin with the same hooks"
    for memos in (0, 100):
        medians = measure(
            [
                Variant(same, requester([SameHooks()], memos)),
                Variant("AIPlugin, no call", requester([AIPlugin()], memos)),
            ],
            rounds=20,
            calls=50 if memos == 0 else 10,
        )
        table(f"{memos} memoized steps and a new one", medians, base=same)
    budgets = [Budget(usd=1000, per="run")]
    medians = measure(
        [
            Variant(same, requester([SameHooks()], 0, step=nothing)),
            Variant(
                "usage.record, own price", requester([AIPlugin(prices=PRICES)], 0, step=records)
            ),
            Variant(
                "usage.record, genai-prices", requester([AIPlugin()], 0, step=records_by_the_table)
            ),
            Variant(
                "... with a budget per run",
                requester([AIPlugin(budgets=budgets)], 0, step=records_by_the_table),
            ),
        ],
        rounds=20,
    )
    table("A step with one call", medians, base=same)
    ratio = medians["usage.record, genai-prices"] / medians[same]
    figure("a step with one model call: AIPlugin / an empty plugin", ratio)


main()
