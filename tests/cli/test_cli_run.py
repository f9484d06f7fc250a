"""``inngest-plugins run``, with real runs."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import typing

import pytest

if typing.TYPE_CHECKING:
    from .conftest import Program, WriteApp

HELLO = '{"name": "demo/hello", "data": {"name": "Mia"}}'


def test_a_completed_run_is_drawn(program: Program, app: str) -> None:
    """All runs that an event causes are drawn, with steps, waits, events and hooks; exit code 0."""
    ended = program("run", app, "--event", HELLO)
    assert ended.code == 0, ended.err
    assert re.search(r"^demo-hello  Completed in 60 min", ended.out, re.MULTILINE)
    assert "✔ greet" in ended.out
    assert "60 min later: nap sleeps" in ended.out
    assert "sent demo/told" in ended.out
    assert '"hi Mia"' in ended.out
    assert "(event sent by demo-hello)" in ended.out
    assert "hooks: audit 3 calls" in ended.out
    assert ended.out.index("demo-hello") < ended.out.index("demo-told")


def test_progress_goes_to_standard_error(program: Program, app: str) -> None:
    """Progress lines and what the app prints stay out of the result on standard output."""
    ended = program("run", app, "--event", HELLO)
    lines = ended.err.splitlines()
    assert lines[0].startswith("demo-hello: started, run ")
    assert "demo-hello: step greet done" in lines
    assert "demo-hello: step nap sleeps" in lines
    assert lines.index("demo-hello: step greet done") < lines.index("demo-hello: Completed")
    assert "the app prints this" in lines
    assert "the app prints this" not in ended.out


def test_a_failed_run_exits_with_one(program: Program, app: str) -> None:
    """A failed run is drawn with its attempts and exits with 1."""
    ended = program("run", app, "--event", '{"name": "demo/fail"}')
    assert ended.code == 1
    assert "↻ work ValueError: secret detail" in ended.out
    assert "work is tried again" in ended.out
    assert "✘ work attempt 2: ValueError: secret detail" in ended.out
    assert "1 retry" in ended.out
    assert "Traceback" not in ended.err


def test_no_values_leaves_values_out(program: Program, app: str, tmp_path: pathlib.Path) -> None:
    """--no-values keeps outputs, payloads and error messages out of every kind of report."""
    html = tmp_path / "r.html"
    for event, secret in ((HELLO, "hi Mia"), ('{"name": "demo/fail"}', "secret detail")):
        for extra in ([], ["--json"]):
            ended = program("run", app, "--event", event, "--no-values", "--html", html, *extra)
            assert secret not in ended.out + ended.err + html.read_text("utf-8")


def test_json_is_a_document(program: Program, app: str) -> None:
    """--json prints one document with runs, steps, requests and hooks."""
    ended = program("run", app, "--event", HELLO, "--json")
    document = json.loads(ended.out)
    assert document["ok"] is True
    hello, told = document["runs"]
    assert (hello["function_id"], hello["output"]) == ("demo-hello", "hi Mia")
    assert [step["key"] for step in hello["steps"]] == ["greet", "nap", "tell"]
    assert hello["steps"][0]["memo"] == {"data": "hi Mia"}
    assert [request["status"] for request in hello["requests"]] == [206, 206, 206, 200]
    assert hello["hooks"] == [
        {
            "plugin": "audit",
            "calls": {"transform_output": 3},
            "duration": pytest.approx(0, abs=1),
            "errors": 0,
        }
    ]
    assert told["cause"] == "event sent by demo-hello"
    failed = json.loads(program("run", app, "--event", '{"name": "demo/fail"}', "--json").out)
    assert failed["ok"] is False
    assert failed["runs"][0]["error"]["message"] == "secret detail"


def test_html_is_one_page(program: Program, app: str, tmp_path: pathlib.Path) -> None:
    """--html writes a page that needs nothing else, beside the timeline."""
    page = tmp_path / "run.html"
    ended = program("run", app, "--event", HELLO, "--html", page)
    text = page.read_text("utf-8")
    assert "demo-hello" in ended.out
    assert '<h2 id="title-0">demo-hello</h2>' in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "http" not in text.replace("HTTP", "").replace("http-equiv", "")


def test_svg_is_a_picture(program: Program, app: str, tmp_path: pathlib.Path) -> None:
    """--svg writes the timeline as a picture that fetches no font and names no folder."""
    picture = tmp_path / "run.svg"
    program("run", app, "--event", HELLO, "--svg", picture)
    text = picture.read_text("utf-8")
    assert text.startswith("<svg")
    assert "demo-hello" in text
    assert "font-face" not in text
    assert str(tmp_path) not in text


def test_hooks_lists_the_hooks_of_each_request(program: Program, app: str) -> None:
    """--hooks shows which hooks ran in each request, beside the sum."""
    plain = program("run", app, "--event", HELLO).out
    listed = program("run", app, "--event", HELLO, "--hooks").out
    assert listed.count("audit: transform_output") == 5
    assert "audit: transform_output" not in plain


def test_function_chooses_a_run(program: Program, app: str) -> None:
    """--function judges one function's run and what it causes; it may fire a cron."""
    cron = program("run", app, "--function", "nightly")
    assert cron.code == 0
    assert "demo-nightly" in cron.out
    chosen = program("run", app, "--event", HELLO, "--function", "hello")
    assert "demo-told" in chosen.out
    wrong = program("run", app, "--event", HELLO, "--function", "told")
    assert wrong.code == 2
    assert "does not start function 'demo-told'" in wrong.err


def test_function_leaves_other_runs_out(program: Program, write_app: WriteApp) -> None:
    """Runs that the chosen one did not cause are neither drawn nor judged."""
    app = write_app(
        """
import inngest
client = inngest.Inngest(app_id="two")
@client.create_function(fn_id="good", trigger=inngest.TriggerEvent(event="x"))
async def good(ctx):
    return 1
@client.create_function(fn_id="bad", trigger=inngest.TriggerEvent(event="x"), retries=0)
async def bad(ctx):
    raise ValueError("no")
"""
    )
    assert program("run", app, "--event", '{"name": "x"}').code == 1
    chosen = program("run", app, "--event", '{"name": "x"}', "--function", "good")
    assert chosen.code == 0
    assert "two-bad" not in chosen.out


@pytest.mark.parametrize("code", ["", "0", "2", "'bye'"])
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_function_that_ends_the_process(
    program: Program, write_app: WriteApp, kind: str, code: str
) -> None:
    """The exit code is never one that means something else."""
    app = write_app(
        f"""
import sys

import inngest

client = inngest.Inngest(app_id="ends")

@client.create_function(fn_id="leave", trigger=inngest.TriggerEvent(event="leave"))
{kind} leave(ctx):
    sys.exit({code})
"""
    )
    result = program("run", app, "--event", '{"name": "leave"}')
    assert result.code == 1
    assert "a function ends the process (sys.exit)" in result.err
    assert ", line 10)" in result.err


def test_timeout_ends_a_run(program: Program, app: str) -> None:
    """--timeout ends what takes longer; that is a negative result."""
    ended = program("run", app, "--event", '{"name": "demo/forever"}', "--timeout", "0.3")
    assert ended.code == 1
    assert "TimedOut" in ended.out


def test_a_journal_keeps_runs_and_finishes_them(
    program: Program, app: str, tmp_path: pathlib.Path
) -> None:
    """A run that was cut short is finished from its journal, and only new runs are drawn."""
    journal = tmp_path / "runs.db"
    script = f"""
import asyncio, inngest, os
os.environ["INNGEST_DEV"] = "1"
from inngest_plugins.cli import load_app
from inngest_plugins.local import LocalEngine, RealClock
app = load_app({app!r})
async def main():
    async with LocalEngine(app.client, list(app.functions), journal={str(journal)!r},
                           clock=RealClock()) as engine:
        await engine.send(inngest.Event(name="demo/hello", data={{"name": "Mia"}}))
        await engine.idle()
        os._exit(9)
asyncio.run(main())
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=200, check=False)
    assert killed.returncode == 9
    finished = program("run", app, "--journal", journal)
    assert finished.code == 0
    assert "demo-hello  Completed" in finished.out
    again = program("run", app, "--journal", journal, "--event", '{"name": "demo/told"}')
    assert "demo-hello" not in again.out
    assert "demo-told  Completed" in again.out
    idle = program("run", app, "--journal", journal)
    assert idle.code == 0
    assert "no run in it is left to finish" in idle.err


def test_a_journal_of_another_app_is_refused(
    program: Program, app: str, tmp_path: pathlib.Path
) -> None:
    """What the engine refuses is told in one line."""
    path = tmp_path / "not-a-journal"
    path.write_text("hello", "utf-8")
    ended = program("run", app, "--journal", path)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "not-a-journal" in ended.err


def test_real_time_waits(program: Program, write_app: WriteApp) -> None:
    """--real-time really waits for a sleep."""
    app = write_app(
        """
import datetime, inngest
client = inngest.Inngest(app_id="slow")
@client.create_function(fn_id="nap", trigger=inngest.TriggerEvent(event="nap"))
async def nap(ctx):
    await ctx.step.sleep("nap", datetime.timedelta(seconds=1))
"""
    )
    ended = program("run", app, "--event", '{"name": "nap"}', "--real-time", "--json")
    (run,) = json.loads(ended.out)["runs"]
    assert run["ended_at"] - run["queued_at"] >= 0.5
    assert ended.code == 0


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ('{"name": "demo/nobody"}', "triggers nothing: the functions listen to 'demo/fail'"),
        ('{"name": "demo/paid", "data": {"cents": 5}}', "no trigger's condition accepts it"),
        ("{", "is not JSON"),
        ("@missing.json", "there is no file missing.json"),
    ],
)
def test_bad_events_exit_with_two(program: Program, app: str, event: str, expected: str) -> None:
    """An event that is wrong or triggers nothing: exit code 2 and one line, no traceback."""
    ended = program("run", app, "--event", event)
    assert ended.code == 2
    assert ended.out == ""
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("inngest-plugins: ")


def test_an_app_without_events_says_so(program: Program, write_app: WriteApp) -> None:
    """When no function listens to any event, the message does not list nothing."""
    app = write_app(
        """
import inngest
client = inngest.Inngest(app_id="cron")
@client.create_function(fn_id="c", trigger=inngest.TriggerCron(cron="* * * * *"))
async def c(ctx):
    return 1
"""
    )
    ended = program("run", app, "--event", '{"name": "x"}')
    assert "triggers nothing: no function listens to an event" in ended.err


def test_bad_apps_exit_with_two(program: Program, write_app: WriteApp) -> None:
    """A missing file, an import error and an app without functions: exit code 2 and one line."""
    broken = write_app("import not_there", "broken.py")
    empty = write_app("import inngest\nclient = inngest.Inngest(app_id='e')", "empty.py")
    production = write_app(
        "import inngest\nclient = inngest.Inngest(app_id='p', is_production=True)\n"
        "@client.create_function(fn_id='f', trigger=inngest.TriggerEvent(event='x'))\n"
        "async def f(ctx): ...\n",
        "production.py",
    )
    for target, expected in (
        ("missing.py", "there is no file missing.py"),
        (broken, "importing broken.py failed: ModuleNotFoundError: No module named 'not_there'"),
        (empty, "has no functions"),
        (production, "dev mode"),
    ):
        ended = program("run", target, "--event", '{"name": "x"}')
        assert ended.code == 2
        assert expected in ended.err
        assert ended.err.count("\n") == 1


def test_nothing_to_do_is_an_error(program: Program, app: str) -> None:
    """Without event, function or journal there is nothing to run; the app's events are told."""
    ended = program("run", app)
    assert ended.code == 2
    assert "give an event with --event; the functions listen to 'demo/" in ended.err
    missing = program("run", "missing.py")
    assert "there is no file missing.py" in missing.err


def test_an_event_of_no_file_is_an_error(program: Program, app: str) -> None:
    """A variable of the shell that is empty is not the current folder."""
    ended = program("run", app, "--event", "@")
    assert ended.code == 2
    assert "--event @ names no file: --event @FILE" in ended.err


@pytest.mark.parametrize("option", ["--html", "--svg"])
def test_reports_that_cannot_be_written_fail_first(
    program: Program, app: str, tmp_path: pathlib.Path, option: str
) -> None:
    """A report's place is checked before anything runs."""
    for place, expected in (
        (tmp_path, "that is a folder"),
        ("", "names no file"),
        (tmp_path / "no" / "r", "there is no folder"),
    ):
        ended = program("run", app, "--event", HELLO, option, place)
        assert ended.code == 2
        assert f"{option} " in ended.err
        assert expected in ended.err
        assert "started" not in ended.err


def test_debug_shows_the_traceback(program: Program, write_app: WriteApp) -> None:
    """--debug, wherever it stands, shows the traceback of a failure."""
    broken = write_app("1 / 0", "broken.py")
    for arguments in (
        ("--debug", "run", broken, "--event", "{}"),
        ("run", broken, "--event", '{"name": "x"}', "--debug"),
    ):
        ended = program(*arguments)
        assert ended.code == 2
        assert "Traceback" in ended.err


def test_the_installed_program_runs_from_elsewhere(app: str, tmp_path: pathlib.Path) -> None:
    """The console script works from any folder, in dev mode, with a batch of events in a file."""
    events = tmp_path / "events.json"
    events.write_text(json.dumps([json.loads(HELLO), {"name": "demo/told"}]), "utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = pathlib.Path(sys.executable).parent / "inngest-plugins"
    ended = subprocess.run(
        [str(script), "run", app, "--event", f"@{events}", "--json"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["runs"]) == 3


MANY_STEPS = """
import inngest
from inngest_plugins.core import Hooks

audit = Hooks("audit")

@audit.transform_memo
def look(call, step):
    pass

client = inngest.Inngest(app_id="demo", middleware=[audit])

@client.create_function(fn_id="many", trigger=inngest.TriggerEvent(event="many"), retries=1)
async def many(ctx):
    for number in range(ctx.event.data["steps"]):
        async def work(number=number):
            return f"m3mo-{number}"
        await ctx.step.run(f"step-{number}", work)
    raise RuntimeError("tried again, with every memo")
"""


def test_each_memo_stands_once_in_a_report(
    program: Program, write_app: WriteApp, tmp_path: pathlib.Path
) -> None:
    """Requests refer to memos and events: a report grows with the steps, not with their square."""
    app, page = write_app(MANY_STEPS), tmp_path / "run.html"
    lines: list[int] = []
    sizes: list[int] = []
    for count in (20, 40):
        event = json.dumps({"name": "many", "data": {"steps": count, "note": "ev3nt"}})
        ended = program("run", app, "--event", event, "--json", "--html", page)
        source = page.read_text("utf-8")
        for text in (ended.out, source):
            assert text.count("ev3nt") == 1
            # In the answer that gave it, and with its step.
            assert text.count('m3mo-7"') + text.count("m3mo-7&quot;") == 2
        lines.append(ended.out.count("\n"))
        sizes.append(len(source))
    assert lines[1] < 2.1 * lines[0]
    assert sizes[1] < 2.1 * sizes[0]
    (run,) = json.loads(ended.out)["runs"]
    keys = [step["key"] for step in run["steps"]]
    carried: list[str] = []
    for request in run["requests"]:
        steps = request["request"]["steps"]
        assert steps["repeated"] == len(carried)
        carried += steps["new"]
        stack = request["request"]["ctx"]["stack"]
        assert stack["repeated"] + len(stack["stack"]) == len(carried) == stack["current"]
        assert request["request"]["event"] == {"id": run["events"][0]["id"]}
        assert request["request"]["events"] == [{"id": run["events"][0]["id"]}]
    assert carried == keys
    (calls,) = run["requests"][-1]["hooks"]
    assert (calls["hook"], calls["calls"], calls["errors"]) == ("transform_memo", 40, 0)
    listed = program("run", app, "--event", event, "--hooks").out
    assert "audit: transform_memo x40" in listed


def test_a_page_or_a_picture_can_be_printed(
    program: Program, app: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` is standard output, in place of the timeline; `./-` is a file; two do not fit."""
    monkeypatch.chdir(tmp_path)
    page = program("run", app, "--event", HELLO, "--html", "-")
    assert page.code == 0
    assert page.out.startswith("<!doctype html>")
    assert page.out.endswith("</html>\n")
    picture = program("run", app, "--event", HELLO, "--svg", "-")
    assert picture.out.startswith("<svg")
    assert not (tmp_path / "-").exists()
    for options, named in (
        (("--html", "-", "--json"), "--json and --html -"),
        (("--html", "-", "--svg", "-"), "--html - and --svg -"),
    ):
        refused = program("run", app, "--event", HELLO, *options)
        assert (refused.code, refused.out) == (2, "")
        assert f"{named} all print to standard output: choose one" in refused.err
    kept = program("run", app, "--event", HELLO, "--html", "./-")
    assert "Completed" in kept.out
    assert (tmp_path / "-").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("option", ["--html", "--svg"])
def test_a_report_that_cannot_be_written(program: Program, app: str, option: str) -> None:
    """A full disk is one line that names the file."""
    ended = program("run", app, "--event", HELLO, option, "/dev/full")
    assert ended.code == 2
    assert ended.err.endswith("inngest-plugins: cannot write /dev/full: No space left on device\n")
