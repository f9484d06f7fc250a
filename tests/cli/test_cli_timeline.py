"""How runs are drawn: in a terminal, as a page, and while they run."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import re
import typing

import inngest
import pytest
import rich.console
import rich.live

from inngest_plugins.cli.run.progress import LiveTable, watching
from inngest_plugins.core import HookRecord, Hooks, record_hooks
from inngest_plugins.local import LocalEngine, Run, VirtualClock, json_answer
from inngest_plugins.local.report.page import render_html
from inngest_plugins.local.report.story import family, story_of
from inngest_plugins.local.report.story_model import Axis, Story
from inngest_plugins.local.report.terminal import TimelineView
from inngest_plugins.local.report.words import duration_text, plural

EVENT = inngest.Event(name="t/go", data={"note": "<script>alert(1)</script>"})
Runs = tuple[list[Run], list[HookRecord]]


def make_app() -> tuple[inngest.Inngest, list[inngest.Function[typing.Any]]]:
    """An app whose one run shows everything that can be shown."""
    hooks = Hooks("checks", fail_open=True)

    @hooks.transform_output
    def complain(call: typing.Any, outcome: typing.Any) -> None:
        if outcome.step is not None and outcome.step.id == "left":
            raise LookupError("hook trouble")

    client = inngest.Inngest(app_id="t", is_production=False, middleware=[hooks])

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="t/child"))
    async def child(ctx: inngest.Context) -> str:
        await ctx.step.sleep("doze", 3_600_000)
        return "grown"

    @client.create_function(
        fn_id="bad-child", trigger=inngest.TriggerEvent(event="t/bad"), retries=0
    )
    async def bad_child(ctx: inngest.Context) -> None:
        raise KeyError("lost toy")

    async def value(of: str) -> str:
        return f"{of} <b>&amp;"

    async def on_failure(ctx: inngest.Context) -> str:
        return await ctx.step.run("note", value, "failure")

    @client.create_function(
        fn_id="main",
        trigger=inngest.TriggerEvent(event="t/go"),
        retries=1,
        on_failure=on_failure,
    )
    async def main_function(ctx: inngest.Context) -> None:
        async def flaky() -> str:
            if ctx.attempt == 0:
                raise ConnectionError("cable <cut>")
            return "ok"

        for _ in range(2):
            await ctx.step.run("flaky", flaky)
        await ctx.group.parallel(
            (
                lambda: ctx.step.run("left", value, "left"),
                lambda: ctx.step.run("right", value, "right"),
            )
        )
        await ctx.step.wait_for_event("answer", event="t/answer", timeout=60_000)
        await ctx.step.send_event("tell", inngest.Event(name="t/told"))
        await ctx.step.invoke("call", function=child)
        try:
            await ctx.step.invoke("call-bad", function=bad_child)
        except inngest.StepError:
            raise inngest.NonRetriableError("gave up on <it>") from None

    return client, [main_function, child, bad_child]


@pytest.fixture
async def finished() -> Runs:
    """The runs of `make_app`, ended, and the hook calls."""
    client, functions = make_app()
    with record_hooks() as hooks:
        async with LocalEngine(
            client, functions, clock=VirtualClock(patience=0), retry_interval=30
        ) as engine:
            await engine.run(EVENT)
            await engine.settle()
    return engine.runs, hooks


def drawn(story: Story, *, width: int = 120, encoding: str = "utf-8", **options: bool) -> str:
    """The timeline as text."""
    raw = io.BytesIO()
    buffer = io.TextIOWrapper(raw, encoding=encoding)
    console = rich.console.Console(file=buffer, width=width, color_system=None)
    console.print(TimelineView(story, **options))
    buffer.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.anyio
async def test_runs_follow_their_cause(finished: Runs) -> None:
    """Runs are told depth first, each with the words for what started it."""
    story = story_of(*finished)
    told = [(run.run.function_id, run.depth, run.cause) for run in story.runs]
    assert told == [
        ("t-main", 0, ""),
        ("t-child", 1, "invoked by step call of t-main"),
        ("t-bad-child", 1, "invoked by step call-bad of t-main"),
        ("t-main-failure", 1, "after t-main ended"),
    ]
    runs = finished[0]
    assert [run.function_id for run in family(runs, runs[0])] == [name for name, _, _ in told]
    assert family(runs, runs[1]) == [runs[1]]


@pytest.mark.anyio
async def test_every_kind_of_mark_is_drawn(finished: Runs) -> None:
    """Attempts, plans, waits, invokes, failures, gaps and hook errors are all in the picture."""
    text = drawn(story_of(*finished))
    for expected in (
        "↻ flaky ConnectionError: cable <cut>",
        "30.0 s later: flaky is tried again",
        "✔ flaky attempt 2",
        "✔ flaky:1 attempt 2",
        "· left planned  · right planned",
        "◔ answer waits for t/answer, at most 1m",
        "60.0 s later: answer waits for its event",
        "▸ answer no event came in time",
        "sent t/told",
        "◔ call invokes t-child",
        "60 min later: call waits for the function",
        "60 min later: doze sleeps",
        "▸ call function returned",
        "✘ call-bad function failed: 'lost toy'",
        "✘ function raised NonRetriableError: gave up on <it>",
        "└ Failed: ",
        "✘ 1 error",
        '"grown"',
    ):
        assert expected in text, text


@pytest.mark.anyio
async def test_every_width_fits(finished: Runs) -> None:
    """No line is wider than the terminal, from wide to absurdly narrow."""
    story = story_of(*finished)
    for width in (200, 100, 72, 50, 40):
        for hooks in (False, True):
            lines = drawn(story, width=width, hooks=hooks).splitlines()
            assert max(len(line) for line in lines) <= width
            assert any("flaky" in line for line in lines)


@pytest.mark.anyio
async def test_a_terminal_without_unicode_gets_ascii(finished: Runs) -> None:
    """A console that cannot show the signs gets plain ones."""
    text = drawn(story_of(*finished), encoding="ascii")
    assert text.isascii()
    assert "x call-bad function failed" in text
    assert "~ flaky" in text


@pytest.mark.anyio
async def test_hooks_by_request(finished: Runs) -> None:
    """With ``hooks`` each request lists its hook calls, with what they raised."""
    text = drawn(story_of(*finished), hooks=True)
    assert "checks: transform_output ✘ LookupError" in text


class _Page(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects what matters."""

    void = frozenset({"meta", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.anyio
async def test_the_page_is_well_formed_and_accessible(finished: Runs) -> None:
    """Elements nest, ids are unique and referred to, tables have captions, signs have words."""
    page = _Page()
    source = render_html(story_of(*finished), title="A <run>")
    page.feed(source)
    page.close()
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "a":
            assert (attributes["href"] or "").removeprefix("#") in ids
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if attributes.get("role") == "img":
            assert attributes["aria-label"]
    counts = {tag: [name for name, _ in page.tags].count(tag) for tag in ("table", "caption")}
    assert counts["table"] == counts["caption"] > 0
    assert [name for name, _ in page.tags].count("h1") == 1
    assert '<html lang="en">' in source
    assert "prefers-color-scheme: dark" in source
    text = "".join(page.text)
    for expected in ("A <run>", "cable <cut>", "LookupError", "flaky:1", "t/told", '"grown"'):
        assert expected in text


@pytest.mark.anyio
async def test_the_page_fetches_and_runs_nothing(finished: Runs) -> None:
    """Payloads cannot become markup, and the page's policy forbids every load."""
    source = render_html(story_of(*finished))
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)" in source
    assert "default-src 'none'" in source
    assert not re.search(r"url\(|@import|src=", source)


@pytest.mark.anyio
async def test_the_page_without_values(finished: Runs) -> None:
    """Without values the page holds names and times, and nothing of payloads or messages."""
    source = render_html(story_of(*finished), values=False)
    assert "NonRetriableError" in source
    for secret in ("alert(1)", "cable", "gave up", "lost toy", "grown", "hook trouble"):
        assert secret not in source


@pytest.mark.anyio
async def test_long_values_are_cut(finished: Runs) -> None:
    """A huge value does not make a huge page."""
    runs, _ = finished
    state = runs[1]._state
    state.output = "x" * 1_000_000
    source = render_html(story_of([runs[1]]))
    assert len(source) < 100_000
    assert "more characters left out]" in source


def test_nothing_to_tell() -> None:
    """No runs make an empty timeline and a page that says so."""
    story = story_of([])
    assert drawn(story) == ""
    assert "0 runs, 0 requests, 0 steps" in render_html(story)
    assert story.axis.place(5) == 0


def test_the_axis_cuts_idle_time_out() -> None:
    """Busy times keep their proportions, idle ones shrink to a notch, order is kept."""
    axis = Axis([(0, 1), (1.2, 2), (1000, 1001)])
    places = [axis.place(t) for t in (-5, 0, 1, 2, 500, 1000, 1001, 2000)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 1)
    assert axis.place(1000) - axis.place(2) == pytest.approx(0.02)
    assert axis.place(1) - axis.place(0) == pytest.approx(axis.place(1001) - axis.place(1000))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.00004, "0.04 ms"),
        (0.0042, "4.2 ms"),
        (0.012, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (119, "119.0 s"),
        (1800, "30 min"),
        (9 * 3600, "9.0 h"),
        (3 * 86400, "3.0 d"),
    ],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    """A length of time is written with a unit that fits it."""
    assert duration_text(seconds) == text


def test_counts() -> None:
    """One is singular, y becomes ies."""
    assert [plural(1, "retry"), plural(2, "retry"), plural(0, "step")] == [
        "1 retry",
        "2 retries",
        "0 steps",
    ]


@pytest.mark.anyio
async def test_hook_calls_without_a_request_are_left_out(finished: Runs) -> None:
    """Hook calls outside of any request, or of requests of other runs, change nothing."""
    stray = HookRecord("stray", "before_send_events", None, None, 0.0, 0.0, None)
    strays = [stray, dataclasses.replace(stray, request_id="somebody else's")]
    story = story_of(finished[0], strays)
    assert all(run.hooks == () for run in story.runs)


@pytest.mark.anyio
async def test_a_run_in_flight_can_be_drawn() -> None:
    """A run that has not ended is drawn as far as it is."""
    client, functions = make_app()
    async with LocalEngine(client, functions, retry_interval=30) as engine:
        await engine.send(EVENT)
        await engine.idle()
        story = story_of(engine.runs)
        text = drawn(story)
        page = render_html(story)
        state = engine.runs[0]._state
        state.requests[0].ended_at = None
        assert "in flight" in render_html(story_of(engine.runs))
    assert "Running" in text
    assert "↻ flaky" in text
    assert "└" not in text
    assert 'class="retry">Retrying' in page


@pytest.mark.anyio
async def test_the_live_table_shows_each_run() -> None:
    """On a terminal the runs are drawn live: status, requests and the last step."""
    client, functions = make_app()
    stream = io.StringIO()
    console = rich.console.Console(file=stream, force_terminal=True, width=120)
    engine = LocalEngine(client, functions, clock=VirtualClock(patience=0))
    async with engine, watching(lambda: engine.runs, console):
        await engine.run(EVENT)
        await engine.settle()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "t-main" in text
    assert "function raised NonRetriableError" in text
    assert "Failed" in text


@pytest.mark.anyio
async def test_the_live_table_is_never_too_long(finished: Runs) -> None:
    """Of many runs the newest are shown, and how many were left out."""
    stream = io.StringIO()
    console = rich.console.Console(file=stream, width=120, force_terminal=True)
    with rich.live.Live(console=console, auto_refresh=False) as live:
        LiveTable(live).update(finished[0] * 5)
        live.refresh()
    assert "8 older runs" in stream.getvalue()
    with rich.live.Live(console=console, auto_refresh=False) as live:
        LiveTable(live).update((finished[0] * 4)[:13])
        live.refresh()
    assert "1 older run  " in stream.getvalue()


@pytest.mark.anyio
async def test_an_error_in_the_watched_block_comes_out_as_itself() -> None:
    """Watching does not change how a failure looks."""
    console = rich.console.Console(file=io.StringIO())
    with pytest.raises(LookupError, match="mine"):
        async with watching(list, console):
            raise LookupError("mine")


@pytest.mark.anyio
async def test_inference_is_told() -> None:
    """An inference step is told as a question to a model and its answer, or its failure."""
    client = inngest.Inngest(app_id="ai", is_production=False)

    class Adapter:
        def auth_key(self) -> str:
            return "key"

        def format(self) -> str:
            return "openai-chat"

        def headers(self) -> dict[str, str]:
            return {}

        def on_call(self, body: object) -> None:
            del body

        def url_infer(self) -> str:
            return "https://ai.invalid/v1"

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"), retries=0)
    async def ask(ctx: inngest.Context) -> None:
        await ctx.step.ai.infer("ask", adapter=typing.cast("typing.Any", Adapter()), body={})

    async with LocalEngine(
        client, [ask], infer=lambda request: json_answer({"ok": True})
    ) as engine:
        await engine.run(inngest.Event(name="go"))
        good = drawn(story_of(engine.runs))
    async with LocalEngine(client, [ask], infer=lambda request: json_answer({}, 500)) as engine:
        await engine.run(inngest.Event(name="go"))
        bad = drawn(story_of(engine.runs))
    assert "◔ ask asks a model" in good
    assert "▸ ask model answered" in good
    assert "✘ ask model failed: Error making AI request" in bad


@pytest.mark.anyio
async def test_an_app_that_does_not_answer_is_told() -> None:
    """A request without a usable answer says why."""
    client, functions = make_app()
    async with LocalEngine(
        client, functions, clock=VirtualClock(patience=0), request_timeout=0.000001
    ) as engine:
        await engine.run(EVENT)
        text = drawn(story_of(engine.runs[:1]))
    assert "✘ The app did not answer within" in text
    assert "Failed" in text


LONG = "the file is not there, " * 20 + "so create it with `touch it`"


@pytest.mark.anyio
@pytest.mark.parametrize("width", [60, 100, 140])
@pytest.mark.parametrize(("encoding", "ellipsis"), [("utf-8", "…"), ("ascii", "...")])
async def test_the_end_tells_an_error_in_full(width: int, encoding: str, ellipsis: str) -> None:
    """A long error is cut with an ellipsis beside its request, and told in full at the end."""
    client = inngest.Inngest(app_id="t", is_production=False)

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"), retries=0)
    async def long(ctx: inngest.Context) -> None:
        raise LookupError(LONG)

    async with LocalEngine(client, [long]) as engine:
        await engine.run(inngest.Event(name="go"))
    text = drawn(story_of(engine.runs), width=width, encoding=encoding)
    lines = text.splitlines()
    end = next(n for n, line in enumerate(lines) if "Failed: attempt 1 failed" in line)
    assert [line for line in lines[:end] if line.rstrip().endswith(ellipsis)]
    assert LONG in " ".join(" ".join(lines[end:]).split())
    assert max(map(len, lines)) <= width


@pytest.mark.anyio
async def test_the_lines_of_an_error_stay_lines() -> None:
    """An error of several lines keeps them in the timeline, and the next mark begins a new one."""
    client = inngest.Inngest(app_id="t", is_production=False)

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"), retries=0)
    async def lines(ctx: inngest.Context) -> None:
        raise LookupError("2 violations\n/cents: int_parsing\n/note: missing\n\n")

    async with LocalEngine(client, [lines]) as engine:
        await engine.run(inngest.Event(name="go"))
    drawn_lines = [line.strip("┊ ") for line in drawn(story_of(engine.runs)).splitlines()]
    for first in ("function raised LookupError: 2 violations", "Failed: attempt 1 failed: "):
        at = next(n for n, line in enumerate(drawn_lines) if first in line)
        assert drawn_lines[at].endswith("LookupError: 2 violations")
        assert drawn_lines[at + 1 : at + 3] == ["/cents: int_parsing", "/note: missing"]
    assert "pre-line" in render_html(story_of(engine.runs))
