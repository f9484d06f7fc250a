"""What the core costs a request, beside the bare SDK and the SDK's own no-op middleware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import inngest
from figures import figure
from harness import Variant, measure, requester, table

from inngest_plugins.core import Call, Outcome, Plugin, Send, Stack, Step


class Nothing(Plugin):
    """Overrides no hook."""


class Everything(Plugin):
    """Overrides every hook with a no-op."""

    def transform_input(self, call: Call) -> None: ...
    def before_memoization(self, call: Call) -> None: ...
    def after_memoization(self, call: Call) -> None: ...
    def before_execution(self, call: Call) -> None: ...
    def transform_step_input(self, call: Call, step: Step) -> None: ...
    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        yield

    def after_execution(self, call: Call) -> None: ...
    def transform_output(self, call: Call, outcome: Outcome) -> None: ...
    def before_response(self, call: Call) -> None: ...
    def before_send_events(self, send: Send) -> None: ...
    def after_send_events(self, send: Send) -> None: ...


class SdkNoop(inngest.MiddlewareSync):
    """The SDK's own no-op middleware."""


def main() -> None:
    """Print the tables."""
    for sync in (False, True):
        variants = [Variant("bare SDK", requester([], 0, sync=sync))]
        for count in (1, 5, 10):
            variants += [
                Variant(
                    f"SDK no-op MiddlewareSync x {count}",
                    requester([SdkNoop] * count, 0, sync=sync),
                ),
                Variant(
                    f"Stack, overrides nothing x {count}",
                    requester([Stack(*(Nothing() for _ in range(count)))], 0, sync=sync),
                ),
                Variant(
                    f"Stack, overrides everything x {count}",
                    requester([Stack(*(Everything() for _ in range(count)))], 0, sync=sync),
                ),
                Variant(
                    f"own entries, overrides nothing x {count}",
                    requester([Nothing() for _ in range(count)], 0, sync=sync),
                ),
            ]
        medians = measure(variants)
        kind = "sync" if sync else "async"
        table(f"One new step, {kind} function", medians, base="bare SDK")
        for count in (1, 10):
            ratio = medians[f"Stack, overrides nothing x {count}"] / medians["bare SDK"]
            what = f"a request of one step, {kind}: {count} plugin(s) that do nothing / bare SDK"
            figure(what, ratio, at_most=1.12 if count == 1 else None)
        for name in (
            "SDK no-op MiddlewareSync",
            "Stack, overrides nothing",
            "Stack, overrides everything",
            "own entries, overrides nothing",
        ):
            each = (medians[f"{name} x 10"] - medians[f"{name} x 1"]) / 9
            print(f"  each further one of {name!r}: {each * 1e6:.2f} us")
    for memos in (0, 100, 300, 1000, 2000):
        calls = max(2, 2000 // (memos + 20))
        medians = measure(
            [
                Variant("bare SDK", requester([], memos)),
                Variant("Stack of one, overrides nothing", requester([Stack(Nothing())], memos)),
                Variant(
                    "Stack of one, overrides everything", requester([Stack(Everything())], memos)
                ),
            ],
            rounds=15,
            calls=calls,
        )
        table(f"{memos} memoized steps and a new one, async function", medians, base="bare SDK")
        if memos:
            ratio = medians["Stack of one, overrides nothing"] / medians["bare SDK"]
            figure(f"{memos} memoized steps: a plugin / bare SDK", ratio, at_most=1)


if __name__ == "__main__":
    main()
