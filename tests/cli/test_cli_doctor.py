"""``inngest-plugins doctor``: the order, and what is wrong with it."""

from __future__ import annotations

import itertools
import json
import pathlib
import subprocess
import typing

import pytest

from inngest_plugins.fetch import _diagnosis as fetch_diagnosis

if typing.TYPE_CHECKING:
    from .conftest import Program, WriteApp

HEAD = """
import inngest
from inngest_plugins.core import Hooks, Layer, Plugin, Stack

class Seal(Plugin):
    layer = Layer.WIRE
    secret_payloads = True
    def transform_output(self, call, outcome): ...

class Watch(Plugin):
    layer = Layer.OBSERVE
    def before_response(self, call): ...
    def diagnose(self, stack):
        if stack.secret_payloads:
            yield "it would like to see payloads"

class Plain(inngest.MiddlewareSync):
    pass

class AsyncOnly(inngest.Middleware):
    pass

audit = Hooks("audit")
@audit.before_execution
def note(call): ...

E = inngest.TriggerEvent(event="x")
"""
FUNCTIONS = """
@client.create_function(fn_id="one", trigger=E)
async def one(ctx): ...

@client.create_function(fn_id="two", trigger=E)
def two(ctx): ...
"""


@pytest.fixture
def examine(program: Program, write_app: WriteApp) -> typing.Callable[..., typing.Any]:
    """Run the doctor on an app whose client has this middleware."""
    numbers = itertools.count()

    def run(middleware: str, *options: str, head: str = "", functions: str = FUNCTIONS) -> object:
        source = f"{HEAD}{head}\nclient = inngest.Inngest(app_id='d', middleware={middleware})\n"
        name = f"app_{next(numbers)}.py"
        return program("doctor", write_app(source + functions, name), *options)

    return run


Examine = typing.Callable[..., typing.Any]


def test_the_order_and_its_reasons(examine: Examine) -> None:
    """Plugins are listed by layer whatever the list says, ordinary middleware where it stands."""
    ended = examine("[audit, Plain, Seal(), Hooks('second'), Watch()]")
    order = [line.split()[1] for line in ended.out.splitlines() if line[:4].strip().isdigit()]
    assert order == ["logger", "watch", "seal", "audit", "second", "Plain"]
    assert "functions one, two" in ended.out
    assert "layer CONTEXT, number 1 of 2 as listed" in ended.out
    assert "payloads are kept secret by seal" in ended.out
    assert "before_execution" in ended.out
    assert "logged, run goes on" in ended.out
    assert "fails the run" in ended.out
    assert "client's list, inside of the plugins" in ended.out
    assert "development mode" in ended.out


def test_a_healthy_app_has_nothing_to_complain_about(examine: Examine) -> None:
    """Nothing wrong: exit code 0, also when strict."""
    for options in ((), ("--strict",)):
        ended = examine("[audit]", *options)
        assert ended.code == 0
        assert "nothing to complain about" in ended.out


def test_a_transport_of_the_app_is_found(examine: Examine) -> None:
    """`fetch` stands in no middleware list; what its transports send is looked at all the same."""
    head = """
from inngest_plugins.fetch import DurableTransport
transport = DurableTransport(where="engine", engine_may_see=["payloads"])
"""
    try:
        ended = examine("[Seal()]", head=head)
        calm = examine("[audit]", head=head)
    finally:
        # The apps' modules stay loaded.
        fetch_diagnosis._AT_THE_ENGINE.clear()
    assert 'fetch: DurableTransport(where="engine", engine_may_see=["payloads"])' in ended.out
    assert "fetch: " not in calm.out


def test_a_plugin_that_replaces_the_clients_is_shown(examine: Examine) -> None:
    """A function's own plugin takes the place of the client's of its class, and doctor says so."""
    functions = """
@client.create_function(fn_id="one", trigger=E, middleware=[Watch()])
async def one(ctx): ...
"""
    ended = examine("[Watch(), audit]", functions=functions)
    assert ended.code == 0
    assert "its own Watch replaces the client's (plugin watch)" in " ".join(ended.out.split())


def test_a_plugin_that_delivers_needs_no_hooks(examine: Examine) -> None:
    """Checkpointing has none, and does something: `doctor --strict` has nothing against it."""
    head = "from inngest_plugins.checkpoint import CheckpointPlugin"
    ended = examine("[CheckpointPlugin()]", "--strict", head=head)
    assert "does nothing" not in ended.out
    assert ended.code == 0


def test_functions_with_their_own_middleware_are_shown_apart(examine: Examine) -> None:
    """Functions are grouped by the order that they really have."""
    functions = FUNCTIONS.replace('fn_id="two"', 'fn_id="two", middleware=[Seal(), Plain]')
    ended = examine("[audit]", functions=functions)
    assert "function one" in ended.out
    assert "function two" in ended.out
    assert "function's own list, innermost" in ended.out
    alone = examine("[]", functions=functions)
    assert "seal" in alone.out


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ("[audit, Hooks('empty')]", "warning  plugin empty: it has no hooks"),
        ("[Seal(), Watch()]", "warning  plugin watch: it would like to see payloads"),
        (
            "[Plain, Seal()]",
            "runs outside of seal: in transform_input and transform_output it sees",
        ),
        ("[Seal(), Plain]", "runs inside of seal: it sees payloads in the clear"),
        ("[Seal(), Seal()]", "warning  plugin seal: 2 objects of Seal are registered"),
        ("[Plain, Plain]", "warning  functions one, two: middleware Plain is listed twice"),
        ("[Hooks('h', layer=Layer.CONTRACT, fail_open=True)]", "and fails open"),
    ],
)
def test_what_is_unsafe_or_pointless_is_a_warning(
    examine: Examine, middleware: str, expected: str
) -> None:
    """Warnings are told, and only --strict turns them into a negative result."""
    ended = examine(middleware)
    assert expected in ended.out
    assert ended.code == 0
    assert examine(middleware, "--strict").code == 1


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ("[audit, Seal(), audit]", "plugin 'audit' (Hooks) is registered twice"),
        ("[Seal]", "Seal stands in middleware=[...] as a class: put an object there"),
        ("[AsyncOnly]", "error  function two: middleware AsyncOnly is asynchronous"),
        ("['Seal']", "an entry of its middleware is of type str, which the SDK cannot call"),
    ],
)
def test_what_cannot_work_is_an_error(examine: Examine, middleware: str, expected: str) -> None:
    """Errors exit with 1."""
    ended = examine(middleware)
    assert expected in ended.out
    assert ended.code == 1


def test_what_the_sdk_refuses_to_register_is_an_error(examine: Examine) -> None:
    """A function with a wrong trigger would only fail when the app is synced."""
    wrong = "@client.create_function(fn_id='wrong', trigger='x')\ndef wrong(ctx): ..."
    ended = examine("[audit]", functions=wrong)
    assert "function wrong: the SDK refuses its configuration (triggers.0." in ended.out
    assert ended.code == 1


CONTRACTS = """
from inngest_plugins.validation import ValidationPlugin
O = {"type": "object"}
"""


def test_contracts_of_functions_that_do_not_exist_are_told_once(examine: Examine) -> None:
    """With what was probably meant; ids of functions count with the app's id and without."""
    wrong = "[ValidationPlugin(outputs={'one': O, 'onne': O}, steps={('zebra', 's'): O})]"
    ended = examine(wrong, head=CONTRACTS)
    named = "names the function"
    assert f"outputs {named} 'onne', and the app has none of this id" in ended.out
    assert "so nothing is checked; is it 'one'?" in ended.out
    assert f"steps {named} 'zebra', and the app has none of this id" in ended.out
    assert ended.out.count(named) == 2
    right = "[ValidationPlugin(outputs={'one': O, 'd-two': O}, steps={('two', 's'): O})]"
    assert named not in examine(right, head=CONTRACTS).out


def test_official_encryption_beside_a_plugin(examine: Examine) -> None:
    """The official encryption middleware beside ours is an error that says which to remove."""
    head = """
from inngest_encryption import EncryptionMiddleware
Seal.__module__ = "inngest_plugins.encryption.plugin"
"""
    ended = examine("[EncryptionMiddleware.factory('k'), Seal()]", head=head)
    assert ended.code == 1
    assert "stands beside inngest_plugins.encryption and encrypts payloads a second" in ended.out
    alone = examine("[EncryptionMiddleware.factory('k')]", head=head)
    assert alone.code == 0


def test_official_sentry_beside_a_plugin(examine: Examine) -> None:
    """The SDK's experimental Sentry middleware beside ours is an error."""
    head = """
from inngest.experimental.sentry_middleware import SentryMiddleware
Watch.__module__ = "inngest_plugins.sentry.plugin"
"""
    ended = examine("[SentryMiddleware, Watch()]", head=head)
    assert ended.code == 1
    assert "reports every error a second time" in ended.out


def test_production_without_keys(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A production client without signing key is an error, without event key a warning."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.delenv("INNGEST_SIGNING_KEY", raising=False)
    monkeypatch.delenv("INNGEST_EVENT_KEY", raising=False)
    ended = examine("[audit]")
    assert ended.code == 1
    assert "production mode (neither is_production nor INNGEST_DEV is set)" in ended.out
    unset = "it is in production mode because neither is_production nor INNGEST_DEV is set and has"
    assert f"error  client: {unset} no signing key" in ended.out
    assert f"warning  client: {unset} no event key" in ended.out
    monkeypatch.setenv("INNGEST_SIGNING_KEY", "signkey-test-12345678")
    monkeypatch.setenv("INNGEST_EVENT_KEY", "an-event-key")
    noted = examine("[audit]", "--strict")
    assert noted.code == 0
    assert "note  client: it is in production mode because neither" in noted.out


@pytest.mark.parametrize("name", ["INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"])
def test_an_empty_signing_key(examine: Examine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The SDK takes what is signed with it, and a compose file easily sets one."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.setenv("INNGEST_EVENT_KEY", "an-event-key")
    monkeypatch.setenv("INNGEST_SIGNING_KEY", "signkey-test-12345678")
    monkeypatch.setenv(name, "")
    ended = examine("[audit]")
    assert ended.code == 1
    assert f"error  client: {name} is empty" in ended.out


def test_a_client_that_says_its_mode(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With is_production in the code nothing is said of the environment."""
    monkeypatch.delenv("INNGEST_DEV")
    monkeypatch.delenv("INNGEST_SIGNING_KEY", raising=False)
    ended = examine("[], is_production=True")
    assert "production mode (is_production is set)" in ended.out
    assert "it is in production mode and has no signing key" in ended.out
    monkeypatch.setenv("INNGEST_DEV", "1")
    assert "development mode (INNGEST_DEV is set)" in examine("[]").out
    assert "development mode (is_production is set)" in examine("[], is_production=False").out


@pytest.mark.parametrize("is_repository", [True, False])
def test_keys_in_files_of_the_repository(
    examine: Examine, tmp_path: pathlib.Path, is_repository: bool
) -> None:
    """A key that stands in a tracked file is named by place and never repeated."""
    if is_repository:
        (tmp_path / "settings.toml").write_text("\n\nsigning = 'signkey-prod-0123456789abcdef'")
        (tmp_path / "untracked.py").write_text("# my-event-key-0123")
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        subprocess.run(["git", "-C", str(tmp_path), "add", "settings.toml"], check=True)
    ended = examine(
        "[], event_key='my-event-' + 'key-0123', signing_key='signkey-prod-0123456789abcdef'"
    )
    if is_repository:
        assert "its signing key stands in " in ended.out
        assert "settings.toml, line 3: whoever can read the repository can sign" in ended.out
        assert "its event key" not in ended.out
    else:
        assert "app_0.py, line " in ended.out
    assert "key-0123" not in ended.out
    assert "0123456789" not in ended.out


def test_inngest_traces_without_a_signing_key(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that Inngest would refuse are told before the first run."""
    monkeypatch.delenv("INNGEST_SIGNING_KEY", raising=False)
    head = "from inngest_plugins.otel import OpenTelemetryPlugin"
    plugin = "OpenTelemetryPlugin(inngest_traces=True)"
    text = "inngest_traces=True sends spans to Inngest, which asks for the signing key"
    assert text in examine(f"[{plugin}], is_production=True", head=head).out
    assert text not in examine(f"[{plugin}], is_production=False", head=head).out


def test_the_report_as_json(examine: Examine) -> None:
    """--json prints the order and the findings as one document, with the same exit code."""
    ended = examine("[Seal(), Watch()]", "--json")
    document = json.loads(ended.out)
    assert ended.code == 0
    assert document["ok"] is True
    assert document["app_id"] == "d"
    (section,) = document["sections"]
    assert section["functions"] == ["one", "two"]
    assert [place["name"] for place in section["places"]] == ["logger", "watch", "seal"]
    assert document["findings"] == [
        {
            "level": "warning",
            "where": "plugin watch",
            "text": "it would like to see payloads",
        }
    ]
    strict = examine("[Seal(), Watch()]", "--json", "--strict")
    assert (strict.code, json.loads(strict.out)["ok"]) == (1, False)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Watch.diagnose = lambda self, stack: 1 / 0", "ZeroDivisionError"),
        ("Watch.diagnose = lambda self, stack: None", "TypeError"),
        ("Watch.diagnose_functions = lambda self, functions: [open('no')]", "FileNotFoundError"),
        ("Watch.diagnose_client = lambda self, client: int('x')", "ValueError"),
    ],
)
def test_a_plugin_that_cannot_tell_is_a_finding(examine: Examine, code: str, said: str) -> None:
    """Its failure has its name, and hides nothing that the others say."""
    ended = examine("[Seal(), Watch(), AsyncOnly]", head=code)
    assert ended.code == 1
    assert "error  plugin watch: its diagnosis raised" in ended.out
    assert said in ended.out
    assert "AsyncOnly" in ended.out.partition("error  ")[2]


@pytest.mark.parametrize("checks", ["[5]", "None", "[HealthCheck('x', leave)]"])
def test_health_checks_that_cannot_work(examine: Examine, checks: str) -> None:
    """They are down; nothing that they do ends the doctor."""
    head = f"""
from inngest_plugins.core import HealthCheck
async def leave(): raise SystemExit(0)
Watch.health_checks = lambda self: {checks}
"""
    ended = examine("[Watch()]", "--health", head=head)
    assert ended.code == 1
    assert "down" in ended.out
    assert "plugin watch: " in ended.out


def test_names_cannot_command_the_terminal(examine: Examine) -> None:
    """Control and bidirectional characters of names and findings are shown escaped."""
    head = "Watch.diagnose = lambda self, stack: ['\\x1b[2J\\u202e']"
    ended = examine("[Hooks('a\\x1b]0;b\\x07'), Watch()]", head=head)
    assert "\\u001b]0;b\\u0007" in ended.out
    assert "\\u001b[2J\\u202e" in ended.out
    assert not set(ended.out) & set("\x1b\x07\u202e")


def test_bad_input_exits_with_two(program: Program) -> None:
    """An app that cannot be loaded is bad input, not a finding."""
    ended = program("doctor", "missing.py")
    assert (ended.code, ended.err) == (2, "inngest-plugins: there is no file missing.py\n")
