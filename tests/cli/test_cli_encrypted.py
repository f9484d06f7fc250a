"""What `run` shows of encrypted payloads: plaintext, or with --sealed what is stored."""

from __future__ import annotations

import json
import pathlib
import typing

import pytest

from inngest_plugins.local.report.words import app_traceback, message_text, value_text

if typing.TYPE_CHECKING:
    from .conftest import Program, WriteApp

APP = """
import inngest
from inngest_plugins.encryption import EncryptionPlugin, KeyRing

client = inngest.Inngest(app_id="shop", middleware=[EncryptionPlugin(KeyRing.generate())])

def charge(card):
    if card == "c4n4ry-bad":
        raise ValueError("no money on " + card)
    return {"charged": card}

@client.create_function(fn_id="pay", trigger=inngest.TriggerEvent(event="pay"), retries=0)
async def pay(ctx):
    return await ctx.step.run("charge", charge, ctx.event.data["encrypted"])

@client.create_function(fn_id="typo", trigger=inngest.TriggerEvent(event="typo"), retries=0)
async def typo(ctx):
    return crad
"""

GOOD = '{"name": "pay", "data": {"encrypted": "c4n4ry-good"}}'
BAD = '{"name": "pay", "data": {"encrypted": "c4n4ry-bad"}}'


@pytest.fixture
def shop(write_app: WriteApp) -> str:
    """The path of an app that encrypts under a key that nobody else has."""
    return write_app(APP)


def test_the_timeline_shows_outputs_errors_and_tracebacks(program: Program, shop: str) -> None:
    """Outputs, messages and tracebacks of the app's own code, as without encryption."""
    good = program("run", shop, "--event", GOOD)
    assert good.code == 0
    assert 'Completed  {"charged": "c4n4ry-good"}' in good.out
    bad = program("run", shop, "--event", BAD)
    assert bad.code == 1
    assert "ValueError: no money on c4n4ry-bad" in bad.out
    assert 'raise ValueError("no money on " + card)' in bad.out
    typo = program("run", shop, "--event", '{"name": "typo"}')
    assert "NameError: name 'crad' is not defined" in typo.out
    assert "in typo" in typo.out
    assert "encrypted" not in (good.out + bad.out + typo.out).replace("encryption", "")


def test_sealed_shows_what_the_engine_stores(
    program: Program, shop: str, tmp_path: pathlib.Path
) -> None:
    """--sealed shows no plaintext, anywhere, and says that it is encrypted."""
    page, picture = tmp_path / "run.html", tmp_path / "run.svg"
    options = ("--sealed", "--html", page, "--svg", picture)
    ended = program("run", shop, "--event", BAD, *options)
    assert "ValueError: (encrypted)" in ended.out
    assert "(encrypted)" in program("run", shop, "--event", GOOD, "--sealed").out
    document = program("run", shop, "--event", BAD, "--sealed", "--json").out
    assert "__ENCRYPTED__" in json.loads(document)["runs"][0]["error"]["message"]
    texts = [ended.out, ended.err, document, page.read_text("utf-8"), picture.read_text("utf-8")]
    assert "Payloads are shown as the engine stores them" in texts[3]
    for text in texts:
        assert "c4n4ry" not in text
        assert "no money" not in text


def test_json_and_pages_are_opened(program: Program, shop: str, tmp_path: pathlib.Path) -> None:
    """--json and --html hold plaintext and no envelope: events, steps, answers, errors."""
    page = tmp_path / "run.html"
    ended = program("run", shop, "--event", BAD, "--json", "--html", page)
    (run,) = json.loads(ended.out)["runs"]
    assert run["events"][0]["data"] == {"encrypted": "c4n4ry-bad"}
    assert run["steps"][0]["memo"]["error"]["message"] == "no money on c4n4ry-bad"
    assert run["error"]["message"] == "no money on c4n4ry-bad"
    assert run["reason"].endswith("ValueError: no money on c4n4ry-bad")
    assert run["requests"][0]["response"][0]["error"]["message"] == "no money on c4n4ry-bad"
    source = page.read_text("utf-8")
    assert "no money on c4n4ry-bad" in source
    assert "Payloads are shown as the app knows them" in source
    assert "__ENCRYPTED__" not in ended.out + source
    bare = program("run", shop, "--event", BAD, "--no-values", "--html", page)
    assert "c4n4ry" not in bare.out + bare.err + page.read_text("utf-8")


def test_the_journal_stays_sealed(program: Program, shop: str, tmp_path: pathlib.Path) -> None:
    """What is shown is opened on its way to the terminal; the journal holds ciphertext."""
    folder = tmp_path / "runs"
    folder.mkdir()
    ended = program("run", shop, "--event", BAD, "--journal", folder / "runs.sqlite")
    assert "no money on c4n4ry-bad" in ended.out
    files = list(folder.iterdir())
    assert files
    for file in files:
        assert b"c4n4ry" not in file.read_bytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"__ENCRYPTED__": True, "data": "x"}, "(encrypted)"),
        ({"__ENCRYPTED__": "no"}, '{"__ENCRYPTED__": "no"}'),
        ("plain é", '"plain é"'),
        (None, "null"),
        ("\u202e\x1b[2J\x85", '"\\u202e\\u001b[2J\\u0085"'),
    ],
)
def test_values(value: object, text: str) -> None:
    """An envelope is known by its mark; anything else is JSON that no terminal obeys."""
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('{"__ENCRYPTED__":true,"data":"x"}', "(encrypted)"),
        ("two  \n\n  lines\n", "two\n  lines"),
        ('{"a": 1}', '{"a": 1}'),
        ("\x1b]0;title\x07\u2066", "\\u001b]0;title\\u0007\\u2066"),
    ],
)
def test_messages(message: str, text: str) -> None:
    """An encrypted message is shown as such, any other keeps its lines and commands nothing."""
    assert message_text(message) == text


LIBRARY = pathlib.Path(json.__file__).parent / "decoder.py"


@pytest.mark.parametrize("kept", [True, False])
def test_tracebacks_lose_the_frames_of_libraries(kept: bool) -> None:
    """Frames of the standard library and of installed packages go, unless nothing is left."""
    own = '  File "/srv/shop/app.py", line 3, in pay\n    json.loads(text)\n    ^^^^\n'
    foreign = (
        f'  File "{LIBRARY}", line 9, in decode\n    raise JSONDecodeError\n'
        '  File "/venv/lib/site-packages/httpx/_client.py", line 1, in send\n    raise x\n'
        '  File "<frozen importlib._bootstrap>", line 1, in _gcd_import\n'
    )
    head, end = "Traceback (most recent call last):\n", "ValueError: two\nlines"
    whole = head + (own if kept else "") + foreign + end
    assert app_traceback(whole) == (head + own + end if kept else whole)
