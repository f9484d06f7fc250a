"""Guarantee 8: one module touches the SDK's internals, and every name it uses is pinned here."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest
from starlette.background import BackgroundTask
from tests.core.core_protocol import BOTH, Engine, make_client, serve

from inngest_plugins import core
from inngest_plugins.core import Call, Plugin, Send
from inngest_plugins.core.entry import calls
from inngest_plugins.core.sdk import door, wrappers

CORE = Path(core.__file__).parent
REPOSITORY = CORE.parents[2]
DOORS = re.compile(r"core/sdk/[a-z_]*\.py$")
SOURCES = sorted(
    path
    for folder in (REPOSITORY / "src", *sorted((REPOSITORY / "plugins").glob("*/src")))
    for path in folder.rglob("*.py")
)
INTERNAL = re.compile(r"^inngest(\.\w+)*\._\w+")


def sdk_private_names() -> set[str]:
    """Every private attribute that the SDK's own classes define or set."""
    names: set[str] = set()
    for path in Path(inngest.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def own_private_names() -> set[str]:
    """Every private attribute that the project's classes define themselves."""
    names: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in ("self", "cls") and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


def imports(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_there_are_sources_to_look_at() -> None:
    """The scan sees the core and the plugins."""
    folders = {path.parent.name for path in SOURCES}
    assert {"core"} <= folders
    assert any(DOORS.search(path.as_posix()) for path in SOURCES)


def test_only_the_door_imports_internals() -> None:
    """No other module of the project imports a private module of the SDK."""
    found = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in SOURCES
        if not DOORS.search(path.as_posix())
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if INTERNAL.match(name)
    ]
    assert found == []


def test_only_the_door_reads_private_attributes_of_the_sdk() -> None:
    """No other module reads an attribute that is private to the SDK."""
    private = sdk_private_names() - own_private_names()
    assert {"_opts", "_execution"} <= private
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.attr}"
        for path in SOURCES
        if not DOORS.search(path.as_posix())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in private
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert found == []


def test_plugins_import_the_core_by_its_public_names() -> None:
    """A plugin imports `inngest_plugins.core` itself, none of its modules and no other plugin."""
    found: list[str] = []
    for path in SOURCES:
        parts = path.relative_to(REPOSITORY).parts
        if parts[0] != "plugins":
            continue
        own = f"inngest_plugins.{parts[1]}"
        found += [
            f"{path.relative_to(REPOSITORY)}: {name}"
            for name in imports(ast.parse(path.read_text(encoding="utf-8")))
            if name.startswith("inngest_plugins.")
            and not name.startswith((own, "inngest_plugins.cli"))
            and not re.fullmatch(r"inngest_plugins\.core\.[A-Za-z]\w*", name)
            and name != "inngest_plugins.core"
        ]
    assert found == []


# What the door uses: the parameters of each callable, as the door passes or receives them.
SIGNATURES = {
    "function:Function.call": ["self", "client", "ctx", "fn_id", "middleware"],
    "function:Function.call_sync": ["self", "client", "ctx", "fn_id", "middleware"],
    "client_lib:Inngest.send": ["self", "events", "skip_middleware"],
    "client_lib:Inngest.send_sync": ["self", "events", "skip_middleware"],
    "execution_lib.v0:ExecutionV0.report_step": ["self", "step_info"],
    "execution_lib.v0:ExecutionV0Sync.report_step": ["self", "step_info"],
    "execution_lib:ReportedStep.__init__": ["self", "step_signal", "step_info"],
    "step_lib.base:StepMemos.pop": ["self", "hashed_id"],
    "step_lib.group:Group.parallel": ["self", "callables", "parallel_mode"],
    "step_lib.group:GroupSync.parallel": ["self", "callables", "parallel_mode"],
    "step_lib.step_async:Step.send_event": ["self", "step_id", "events"],
    "step_lib.step_sync:StepSync.send_event": ["self", "step_id", "events"],
    "step_lib.base:ResponseInterrupt.__init__": ["self", "responses"],
    "step_lib.base:StepBase._parse_step_id": ["self", "step_id"],
    "server_lib:ServerRequest.from_raw": ["raw"],
    "middleware_lib:MiddlewareManager.transform_input": ["self", "ctx", "function", "steps"],
    "middleware_lib:MiddlewareManager.before_execution": ["self"],
    "middleware_lib:MiddlewareManager.transform_output": ["self", "call_res"],
    "middleware_lib:MiddlewareManager.transform_output_sync": ["self", "call_res"],
    "middleware_lib:MiddlewareManager.transform_input_sync": ["self", "ctx", "function", "steps"],
    "errors:is_retriable": ["err"],
    "net:create_headers": ["env", "framework", "server_kind"],
    "net:fetch_with_auth_fallback": [
        "client",
        "client_sync",
        "request",
        "signing_key",
        "signing_key_fallback",
    ],
    "net:fetch_with_auth_fallback_sync": [
        "client",
        "request",
        "signing_key",
        "signing_key_fallback",
    ],
    "net:ThreadAwareAsyncHTTPClient.initialize": ["self"],
}
COROUTINES = {
    "net:fetch_with_auth_fallback",
    "function:Function.call",
    "client_lib:Inngest.send",
    "execution_lib.v0:ExecutionV0.report_step",
    "step_lib.group:Group.parallel",
    "step_lib.step_async:Step.send_event",
    "middleware_lib:MiddlewareManager.before_execution",
    "middleware_lib:MiddlewareManager.transform_output",
    "middleware_lib:MiddlewareManager.transform_input",
}
# Pydantic and dataclass fields, by class.
FIELDS = {
    "step_lib:StepInfo": {"display_name", "id", "name", "op", "opts"},
    "step_lib:StepResponse": {"output", "original_error", "step"},
    "step_lib.base:Output": {"data", "error"},
    "step_lib.base:MemoizedError": {"message", "name", "stack"},
    "execution_lib:CallResult": {"error", "multi", "output", "step"},
}


def resolve(where: str) -> Any:
    """Find `module:Qualified.name` in the SDK's internals."""
    module, _, qualified = where.partition(":")
    found: Any = importlib.import_module(f"inngest._internal.{module}")
    for name in qualified.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("where", SIGNATURES)
def test_signatures(where: str) -> None:
    """Every callable that the door wraps or calls takes the parameters it counts on."""
    function = inspect.unwrap(resolve(where))
    assert list(inspect.signature(function).parameters) == SIGNATURES[where]
    assert inspect.iscoroutinefunction(function) is (where in COROUTINES)


def test_endpoints_are_made_with_their_client_and_functions() -> None:
    """What notes the served functions takes both by name; the other parameters may differ."""
    made = inspect.signature(inspect.unwrap(resolve("comm_lib:CommHandler.__init__")))
    assert {"client", "functions"} <= set(made.parameters)


@pytest.mark.parametrize("where", FIELDS)
def test_fields(where: str) -> None:
    """Every model that the door reads or writes has the fields it counts on."""
    model = resolve(where)
    fields: set[str] = set(getattr(model, "model_fields", None) or model.__dataclass_fields__)
    assert FIELDS[where] <= fields


def test_interrupts_are_no_exceptions() -> None:
    """The SDK's control flow passes `except Exception`, which failing closed stands on."""
    for name in ("ResponseInterrupt", "SkipInterrupt", "NestedStepInterrupt"):
        interrupt: type[BaseException] = resolve(f"step_lib:{name}")
        assert issubclass(interrupt, BaseException)
        assert not issubclass(interrupt, Exception)


def test_opcodes() -> None:
    """The opcodes that the door sets or compares are those of the protocol."""
    opcode = resolve("server_lib:Opcode")
    assert {
        opcode.STEP_RUN.value,
        opcode.STEP_ERROR.value,
        opcode.STEP_FAILED.value,
    } == {"StepRun", "StepError", "StepFailed"}


# Every private attribute that the door touches, with the object it is found on.
PRIVATE = {
    "_client",
    "_deserialize",
    "_execution",
    "_handler",
    "_http_client",
    "_http_client_sync",
    "_memos",
    "_middleware",
    "_opts",
    "_parse_step_id",
    "_raw_request",
    "_request",
    "_serialize",
    "_start_counter",
    "_target_hashed_id",
    "_timings",
}


def test_every_private_name_is_pinned() -> None:
    """The door uses no private attribute that this module does not check."""
    used: set[str] = set()
    for path in SOURCES:
        if DOORS.search(path.as_posix()):
            used |= {
                node.attr
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            }
    assert used == PRIVATE


@pytest.mark.parametrize("setting", BOTH)
def test_private_attributes(setting: str) -> None:
    """Each private attribute is where the door looks for it, in a real request."""
    seen: list[str] = []

    class Look(Plugin):
        def transform_input(self, call: Call) -> None:
            execution: Any = call.ctx.step._execution
            assert execution._target_hashed_id == call.target
            assert execution._request.ctx.max_attempts == call.max_attempts == 7
            assert type(execution._memos).__name__ == "StepMemos"
            assert isinstance(execution._memos._memos, dict)
            assert set(execution._memos._memos) == set(call.memos)
            assert isinstance(execution._middleware._middleware, list)
            assert execution._middleware._raw_request is call.raw_request
            assert isinstance(call.function._middleware, list)
            assert call.function._opts.retries == 6
            assert call.function._opts.on_failure is None
            assert call.function._handler is call.handler
            http: Any = call.client._http_client
            assert isinstance(http._http_client, httpx.AsyncClient)
            assert isinstance(http._http_client_sync, httpx.Client)
            assert callable(http.build_httpx_request)
            assert call.client._serialize(5, object) == 5
            assert call.client._deserialize(5, object) == 5
            assert execution._request.ctx.disable_immediate_execution is False
            assert execution._timings.function._start_counter is None
            seen.append("transform_input")

    async def body(ctx: Any) -> int:
        return int(await ctx.step.run("a", lambda: 0))

    app = serve(setting, body, Look(), retries=6)
    assert app.post(memos={"a": {"data": 5}}, max_attempts=7).body == 5
    assert app.post(target="a", max_attempts=7).op["data"] == 0
    assert seen == ["transform_input"] * 2


def test_the_sentinel_is_what_an_absent_output_is() -> None:
    """The SDK leaves data out of an operation exactly for this object."""
    assert resolve("types:empty_sentinel") is door.EMPTY
    result = inngest.TransformOutputResult(error=None, output=door.EMPTY, step=None)
    assert not result.has_output()


@pytest.mark.anyio
async def test_a_replayed_step_is_what_the_sdk_reports() -> None:
    """The stand-in for a step with a memo has all that the SDK's own has, but its signals."""
    info: Any = object()
    own: Any = resolve("execution_lib:ReportedStep")(asyncio.Future(), info)
    output, error = resolve("step_lib.base:Output"), resolve("step_lib.base:MemoizedError")
    replayed = door.ReplayedStep(info, output(data=[1]))
    assert vars(replayed).keys() == vars(own).keys() - {"_release_signal", "_done_signal"}
    assert (replayed.info, replayed.output, replayed.error, replayed.skip) == (
        info,
        [1],
        None,
        own.skip,
    )
    async with replayed as entered:
        assert entered is replayed
    failed = door.ReplayedStep(
        info, output(data=None, error=error(message="m", name="N", stack="s"))
    )
    assert failed.output is own.output
    assert isinstance(failed.error, inngest.StepError)
    assert (failed.error.message, failed.error.name, failed.error.stack) == ("m", "N", "s")


def test_the_context_variable_of_groups() -> None:
    """`in_parallel` is the context variable that `group.parallel` sets."""
    assert resolve("step_lib:in_parallel") is resolve("step_lib.group:in_parallel")
    assert door.in_parallel() is False


@pytest.mark.parametrize("setting", BOTH)
def test_the_default_of_retries_is_the_sdks(setting: str) -> None:
    """A function without `retries` registers none, so that the engine's default of 4 holds."""

    async def body(ctx: Any) -> None:
        return None

    app = serve(setting, body)
    retries = app.function.get_config("http://app").main.steps["step"].retries
    assert retries is None
    assert door.DEFAULT_RETRIES == 4


def test_install_wraps_five_methods_and_uninstall_gives_them_back() -> None:
    """Nothing else of the SDK is replaced, and the originals can be had back."""
    function_class: Any = resolve("function:Function")
    client_class: Any = resolve("client_lib:Inngest")
    wrapped = [
        function_class.call,
        function_class.call_sync,
        client_class.send,
        client_class.send_sync,
    ]
    originals = [getattr(method, "__wrapped__", None) for method in wrapped]
    assert all(originals)
    request_class: Any = resolve("server_lib:ServerRequest")
    assert "from_raw" in vars(request_class)

    from inngest_plugins.core.entry import calls

    calls.install()
    assert function_class.call is wrapped[0], "installing twice wraps once"
    wrappers.uninstall()
    try:
        assert [
            function_class.call,
            function_class.call_sync,
            client_class.send,
            client_class.send_sync,
        ] == originals
        assert "from_raw" not in vars(request_class)
        seen: list[str] = []

        class Never(Plugin):
            def transform_input(self, call: Call) -> None:
                seen.append("transform_input")

        async def body(ctx: Any) -> int:
            return 1

        for setting in BOTH:
            assert serve(setting, body, Never()).post().body == 1
        assert seen == [], "without the core the plugins are inert"
    finally:
        calls.install()
    assert hasattr(function_class.call, "__wrapped__")


@pytest.mark.anyio
async def test_client_send_is_still_a_coroutine_function() -> None:
    """Code that asks whether to await it, as Starlette's background tasks do, is told."""
    client = make_client(Sending())
    assert inspect.iscoroutinefunction(client.send)
    assert not inspect.iscoroutinefunction(client.send_sync)
    with Engine().serving(client) as engine:
        await BackgroundTask(client.send, inngest.Event(name="shop/x"))()
    assert len(engine.sent) == 1


class Sending(Plugin):
    """A plugin that takes part in sends."""

    def before_send_events(self, send: Send) -> None:
        assert send.call is None


def test_clients_without_plugins_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing of ours registered, the SDK's own methods are called with what was given."""
    # Tools that other tests import ask for a call in every request.
    monkeypatch.setattr(calls, "_every_request", set[str]())
    client = make_client()
    assert client.send_sync.__doc__ == inngest.Inngest.send_sync.__doc__
    assert inngest.Inngest.send_sync.__name__ == "send_sync"

    async def body(ctx: Any) -> str:
        assert Call.current() is None
        step = getattr(ctx, "sdk_context", ctx).step
        return type(step._execution.report_step).__name__

    for setting in BOTH:
        assert serve(setting, body).post().body == "method"
