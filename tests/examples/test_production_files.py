"""What the production example's files say about each other, and the workers that they start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import importlib.util
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from examples.production import register, run, secret_env
from tests.core.core_protocol import call_body

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "production"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTOR: dict[str, Any] = yaml.safe_load((FOLDER / "collector.yaml").read_text())
SECRET = "Ada Canary Lovelace"
ORDER = {
    "order_id": "A1",
    "branch": "north",
    "articles": {"tea-sencha": 1},
    "customer": {"name": SECRET, "email": "ada@example.com"},
    "payment": {"card_token": "tok_visa"},
}


# ---------------------------------------------------------------------------- files


def strings(value: object) -> Iterator[str]:
    """Every text below a value of a YAML file."""
    if isinstance(value, dict):
        for key in value:
            yield from strings(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        yield str(value)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_names_what_is_there(name: str) -> None:
    """Its files, the services it waits for, its modules and its variables exist."""
    service = SERVICES[name]
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (FOLDER / source).is_file() if "/" in source else source in COMPOSE["volumes"]
    assert service.get("env_file", ".env") == ".env"
    for text in strings(service):
        for module in re.findall(r"\bexamples\.production\.\w+", text):
            assert importlib.util.find_spec(module), module
        for variable in re.findall(r"\$\{(\w+)[^}]*\}", text):
            assert variable in {*secret_env.fresh(), "SHOP_VERSION"}
        for host in re.findall(r"(?:http://|@|redis://)([a-z]+)", text):
            assert host in SERVICES
    # Published to this machine alone; `front` is the one way in.
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "build" in service or re.search(r":v?\d", service["image"]), "an image without a version"


def test_the_workers_have_every_variable_that_the_app_reads() -> None:
    """By name in the compose file, or from the file of secrets; the runner has defaults."""
    code = "".join(path.read_text() for path in FOLDER.glob("*.py") if path.name != "run.py")
    read = set(re.findall(r'os\.environ\["(\w+)"\]', code))
    assert read >= {"SHOP_DATABASE", "PAYMENTS_URL", "SHOP_OPERATOR_TOKEN"}
    secrets = set(secret_env.fresh())
    assert read <= {*SERVICES["worker"]["environment"], *secrets}
    assert read <= {*run.DEFAULTS, *secrets}


def test_an_optional_variable_is_left_out_and_not_empty() -> None:
    """An empty fallback key would be a key: the SDK would take what anybody signed with it."""
    assert not re.search(r"^[^#\n]*\$\{\w+:?-\}", (FOLDER / "compose.yaml").read_text(), re.M)


def test_the_image_starts_the_app() -> None:
    """The Dockerfile copies the package to where its command and the compose file look for it."""
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert "COPY *.py examples/production/" in dockerfile
    assert "examples.production.app:app" in dockerfile
    assert "USER shop" in dockerfile
    graceful = int(re.search(r'graceful-shutdown", "(\d+)"', dockerfile)[1])  # type: ignore[index]
    assert graceful < int(SERVICES["worker"]["stop_grace_period"].rstrip("s"))
    assert ".env" in (FOLDER / ".dockerignore").read_text().splitlines()


def test_the_server_has_a_database_of_its_own() -> None:
    """The one that databases.sql makes."""
    uri = SERVICES["inngest"]["environment"]["INNGEST_POSTGRES_URI"]
    assert f"CREATE DATABASE {uri.rsplit('/', 1)[1]};" in (FOLDER / "databases.sql").read_text()


def test_the_database_is_healthy_by_tcp() -> None:
    """While the image makes the databases it listens on its socket alone, and refuses the rest."""
    command = SERVICES["postgres"]["healthcheck"]["test"]
    assert command[command.index("-h") + 1] == "127.0.0.1"


def test_no_order_comes_before_the_functions_are_known() -> None:
    """The way in waits for what registers them, and that for a worker."""
    waits_for = SERVICES["front"]["depends_on"]["register"]
    assert waits_for == {"condition": "service_completed_successfully"}
    registers = SERVICES["register"]
    assert registers["restart"] == "no"
    assert {"worker", "inngest"} <= set(registers["depends_on"])
    address = registers["command"].split()[-1]
    assert registers["environment"]["INNGEST_SERVE_ORIGIN"] == address


def test_each_version_is_an_image_of_its_own() -> None:
    """A build without the new version would overwrite the image that a roll back goes back to."""
    guide = (ROOT / "docs" / "production.md").read_text()
    rollout, rollback = guide.split("## Roll out")[1].split("## Roll back")
    for text, version in ((rollout, "2"), (rollback, "1")):
        for line in re.findall(r"^.*docker compose (?:build|up).*$", text, re.M):
            assert line.startswith(f"SHOP_VERSION={version} "), line
    # New workers may need new tables; older ones refuse to touch those.
    assert "--no-deps" not in rollout.split("```")[1]
    assert "--no-deps" in rollback.split("```")[1]


def test_the_collector_takes_what_the_workers_send() -> None:
    """Each part of a pipeline is configured, and each that is configured is in a pipeline."""
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in COLLECTOR["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            used[kind] |= set(names)
    assert used == {kind: set(COLLECTOR[kind]) for kind in used}
    port = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rsplit(":", 1)[1]
    endpoint = SERVICES["worker"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == f"http://collector:{port}"
    assert COLLECTOR["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0] in SERVICES
    metrics = COLLECTOR["exporters"]["prometheus"]["endpoint"].rsplit(":", 1)[1]
    assert SERVICES["collector"]["ports"] == [f"127.0.0.1:{metrics}:{metrics}"]


def test_the_guide_names_what_is_there() -> None:
    """Files of the example, its variables and its services."""
    guide = (ROOT / "docs" / "production.md").read_text() + (FOLDER / "README.md").read_text()
    for path in re.findall(r"examples/production/([\w.]+\w)", guide):
        assert (FOLDER / path).is_file(), path
    for module in re.findall(r"examples\.production\.(\w+)", guide):
        assert (FOLDER / f"{module}.py").is_file(), module
    for command in re.findall(r"docker compose (?:up|restart|logs|exec) ([^\n`]*)", guide):
        words = re.sub(r"--scale \S+|-{1,2}[\w-]+", "", command).split()
        assert not words or words[0] in SERVICES, command


# -------------------------------------------------------------------------- workers


class FakeServer(BaseHTTPRequestHandler):
    """An Inngest server that takes registrations and events, and keeps what it was sent."""

    taken: list[tuple[str, str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.path, self.headers["authorization"], body))
        ids = ["e1"] if self.path.startswith("/e/") else []
        answer = json.dumps({"ok": True, "modified": True, "ids": ids, "status": 200}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def fake_server() -> Iterator[tuple[str, list[tuple[str, str | None, bytes]]]]:
    """Yield the server's address and what it takes."""
    FakeServer.taken = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", FakeServer.taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signature(key: str, body: bytes) -> dict[str, str]:
    """Sign a request as the server does."""
    now = str(int(time.time()))
    signed = hmac.new(key.encode(), body + now.encode(), hashlib.sha256).hexdigest()
    return {"x-inngest-signature": f"t={now}&s={signed}", "content-type": "application/json"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A file of secrets as the guide makes it."""
    script = [sys.executable, str(FOLDER / "secret_env.py")]
    file = tmp_path / ".env"
    file.write_bytes(subprocess.run(script, check=True, capture_output=True).stdout)
    return file


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Pydantic AI needs Python 3.11")
def test_the_doctor_finds_everything_up(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing wrong, once the tables are there: the guide asks for it in CI."""
    for name in ("INNGEST_DEV", "SENTRY_DSN"):
        monkeypatch.delenv(name, raising=False)
    env = {
        **run.environment(secrets, 8000),
        "SHOP_DATABASE": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}",
        "INNGEST_MIRROR_URL": f"sqlite:///{tmp_path / 'mirror.db'}",
    }
    program = run.mirror_command()[0]
    subprocess.run([program, "mirror", "upgrade"], cwd=ROOT, env=env, check=True)
    examined = subprocess.run(
        [program, "doctor", f"{run.PACKAGE}.app:client", "--health", "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
    )
    assert examined.returncode == 0, examined.stdout
    told = json.loads(examined.stdout)
    assert len(told["health"]) == 2
    assert not [check for check in told["health"] if check["error"]]
    assert "does nothing" not in examined.stdout.decode()


def wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=200).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("no worker came up")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Pydantic AI needs Python 3.11")
def test_two_workers_in_production_mode(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They register, take what is signed alone, seal what they send; one goes on when one dies."""
    for name in ("INNGEST_DEV", "SENTRY_DSN"):
        monkeypatch.delenv(name, raising=False)
    with fake_server() as (server, taken), run.listen(0) as shared:
        url = f"http://127.0.0.1:{shared.getsockname()[1]}"
        env = {
            **run.environment(secrets, shared.getsockname()[1]),
            "INNGEST_BASE_URL": server,
            "SHOP_DATABASE": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}",
            "INNGEST_MIRROR_URL": f"sqlite:///{tmp_path / 'mirror.db'}",
        }
        migrate = [sys.executable, "-m", "examples.production.orders"]
        subprocess.run(migrate, cwd=ROOT, env=env, check=True)
        first, second = (
            subprocess.Popen(
                run.worker_command(shared), cwd=ROOT, env=env, pass_fds=[shared.fileno()]
            )
            for _ in range(2)
        )
        try:
            wait_until_up(url)
            check_requests(url, env, taken)
            first.kill()
            first.wait()
            wait_until_up(url)
            second.terminate()
            assert second.wait(200) in (0, -signal.SIGTERM)
        finally:
            for worker in (first, second):
                worker.kill()
                worker.wait()


def check_requests(url: str, env: dict[str, str], taken: list[Any]) -> None:
    """Register the app, start a run, and place an order."""
    assert httpx.put(f"{url}/api/inngest", timeout=200).is_success
    path, authorization, registered = taken[-1]
    assert path == "/fn/register"
    assert authorization is not None
    assert env["INNGEST_SIGNING_KEY"] not in authorization
    assert f"{env['INNGEST_SERVE_ORIGIN']}/api/inngest".encode() in registered

    data = {"order_id": "A1", "branch": "north", "cents": 5}
    called = call_body(
        events=[{"name": "shop/invoice.requested", "data": data, "id": "e", "ts": 1}]
    )
    body = json.dumps(called, sort_keys=True, separators=(",", ":")).encode()
    request: dict[str, Any] = {
        "params": {"fnId": "shop-invoice", "stepId": "step"},
        "content": body,
        "timeout": 30,
    }
    key = env["INNGEST_SIGNING_KEY"]
    answer = httpx.post(f"{url}/api/inngest", headers=signature(key, body), **request)
    assert answer.is_success, answer.text
    assert "__ENCRYPTED__" in answer.text
    for wrong in (signature("", body), signature("00" * 32, body), {}):
        assert httpx.post(f"{url}/api/inngest", headers=wrong, **request).status_code == 401

    assert httpx.post(f"{url}/orders", json=ORDER, timeout=200).status_code == 202
    path, _, sent = taken[-1]
    assert path == f"/e/{env['INNGEST_EVENT_KEY']}"
    assert b"A1" in sent
    assert SECRET.encode() not in sent


def test_registering_waits_for_the_worker_and_the_server() -> None:
    """It asks until both are there: a worker answers with an error while the server is away."""
    asked: list[str] = []

    class Worker(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(200 if asked.count(asked[-1]) == 3 else 500)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        asyncio.run(register.register(f"http://127.0.0.1:{server.server_address[1]}"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["GET /health"] * 3 + ["PUT /api/inngest"] * 3


def test_what_ends_is_started_again(tmp_path: Path) -> None:
    """Until the runner is stopped, which waits for it to end."""
    file = tmp_path / "starts"
    code = f"open({str(file)!r}, 'a').write('x')"

    async def kept() -> None:
        task = asyncio.create_task(run.keep([sys.executable, "-c", code], {}, pause=0.05))
        while not file.exists() or len(file.read_text()) < 2:
            await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(kept())
    assert len(file.read_text()) >= 2


SLOW_TO_END = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[2]))
    pathlib.Path(sys.argv[1] + ".ended").touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def test_stopping_waits_for_each_process(tmp_path: Path) -> None:
    """The slow one, too: what it does is not left behind when the first has ended."""
    files = {tmp_path / "quick": "0", tmp_path / "slow": "1.5"}

    async def stopped() -> None:
        parts = [
            run.keep([sys.executable, "-c", SLOW_TO_END, str(file), seconds], {})
            for file, seconds in files.items()
        ]
        task = asyncio.create_task(run.together(parts))
        while not all(file.exists() for file in files):
            await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    assert all(file.with_name(f"{file.name}.ended").exists() for file in files)


def test_what_cannot_be_started_ends_the_rest(tmp_path: Path) -> None:
    """A missing program is an error at once, and nothing is left running."""
    file = tmp_path / "quick"

    async def failed() -> None:
        other = run.keep([sys.executable, "-c", SLOW_TO_END, str(file), "0"], {})
        await run.together([other, run.keep([str(tmp_path / "no-program")], {})])

    with pytest.raises(FileNotFoundError):
        asyncio.run(failed())
    assert not file.exists() or file.with_name("quick.ended").exists()


def test_a_server_that_is_not_there_is_said(secrets: Path) -> None:
    """Before anything is started."""
    command = [sys.executable, "-m", "examples.production.run", "--env", str(secrets)]
    ended = subprocess.run(
        [*command, "--inngest", "no-such-inngest"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert ended.returncode == 2
    assert "there is no program no-such-inngest" in ended.stderr
