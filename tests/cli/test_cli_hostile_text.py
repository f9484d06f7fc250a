"""Text of payloads and of other people's code commands neither the terminal nor a browser."""

from __future__ import annotations

import io
import pathlib
import re
import typing
import unicodedata

import pytest
import rich.console
import rich.live

from inngest_plugins.cli.run.progress import LiveTable, watching
from inngest_plugins.local import LocalEngine, TimelineEntry

if typing.TYPE_CHECKING:
    from inngest_plugins.local import Run

    from .conftest import Program, WriteApp

TITLE = r"\x1b]0;owned\x07"
CLEAR = r"\x1b[2J"
TURNED = r"\u202egnp.exe"
C1 = r"\x9b2J"

APP = f"""
import inngest
from inngest_plugins.core import Hooks

odd = Hooks("plug{CLEAR}in", fail_open=True)

@odd.before_execution
def look(call):
    raise type("Err{TITLE}", (Exception,), {{}})("hook {C1}")

client = inngest.Inngest(app_id="demo{TURNED}", middleware=[odd])

@client.create_function(
    fn_id="f{CLEAR}", trigger=inngest.TriggerEvent(event="go{TITLE}"), retries=1
)
async def f(ctx):
    async def work():
        raise ValueError("[bold red]:smile: {TITLE}\\nsecond {TURNED}{CLEAR}\\r{C1}")
    await ctx.step.send_event("tell{C1}", inngest.Event(name="told{CLEAR}"))
    await ctx.step.run("step{CLEAR}{TURNED}", work)
"""

EVENT = '{"name": "go\\u001b]0;owned\\u0007", "data": {"x": "\\u001b[2J\\u202e"}}'


def commanding(text: str) -> set[str]:
    """Every character of a text that a terminal or a reader's eye obeys."""
    return {
        character
        for character in text
        if (unicodedata.category(character) in ("Cc", "Zl", "Zp") and character != "\n")
        or unicodedata.bidirectional(character) in _TURNING
    }


_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_the_check_sees_what_it_is_for() -> None:
    """The check finds escapes, C1 controls and bidirectional controls."""
    assert commanding("\x1b\x9b\x07\r\u202e\u2066a\n\u2028") == set(
        "\x1b\x9b\x07\r\u202e\u2066\u2028"
    )


@pytest.mark.parametrize(
    "options", [(), ("--hooks",), ("--json",), ("--no-values",), ("--sealed",)]
)
def test_a_run_prints_no_control_characters(
    program: Program, write_app: WriteApp, options: tuple[str, ...]
) -> None:
    """Step ids, names, causes, reasons, tracebacks and logs are escaped; markup stays text."""
    ended = program("run", write_app(APP), "--event", EVENT, *options)
    assert ended.code == 1, ended.err
    assert not commanding(ended.out)
    assert not commanding(ended.err)
    assert "\\u001b[2J" in ended.out
    assert "step\\u001b[2J" in ended.err
    if not options:
        assert "[bold red]:smile:" in ended.out


def test_pages_and_pictures_hold_no_control_characters(
    program: Program, write_app: WriteApp, tmp_path: pathlib.Path
) -> None:
    """The HTML and the SVG show escapes as well; a raw one would make the SVG no XML."""
    page, picture = tmp_path / "run.html", tmp_path / "run.svg"
    program("run", write_app(APP), "--event", EVENT, "--html", page, "--svg", picture)
    for path in (page, picture):
        assert not commanding(path.read_text("utf-8"))


def test_the_doctor_prints_no_control_characters(program: Program, write_app: WriteApp) -> None:
    """App, function and plugin names are escaped."""
    ended = program("doctor", write_app(APP))
    assert "plug\\u001b[2Jin" in ended.out
    assert not commanding(ended.out + ended.err)


@pytest.mark.anyio
async def test_the_live_table_prints_no_control_characters(
    write_app: WriteApp,
) -> None:
    """On a terminal, too: only the escapes of the table itself are sent."""
    from inngest_plugins.cli import load_app

    app = load_app(write_app(APP))
    buffer = io.StringIO()
    console = rich.console.Console(file=buffer, force_terminal=True, width=200, color_system=None)
    runs: list[Run] = []
    async with LocalEngine(app.client, list(app.functions)) as engine:
        async with watching(lambda: engine.runs, console):
            import inngest

            await engine.send(inngest.Event(name="go\x1b]0;owned\x07"))
            await engine.settle()
        runs = engine.runs
    live = rich.live.Live(console=console, auto_refresh=False)
    LiveTable(live).update(runs)
    console.print(live.get_renderable())
    drawn = re.sub(r"\x1b\[(\?25[lh]|\d*[AKm]|2K|1A)|\r", "", buffer.getvalue())
    assert "demo\\u202egnp.exe" in drawn
    assert not commanding(drawn)


def test_a_line_of_a_timeline_is_escaped() -> None:
    """What assertions and `print(run.timeline())` show."""
    entry = TimelineEntry(0.0, 0.0, "step", "step \x1b[2J", detail="\u202e")
    assert not commanding(str(entry))
