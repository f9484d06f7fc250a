"""The provider with a ledger behind real HTTP, for real clients and processes that are killed."""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx2
from tests.ai.ai_provider import Charged, Provider

ATTEMPT_HEADER = "x-attempt"
BREAK_HEADER = "x-break-after"
"""After how many parts of a stream the server hangs up."""


class ProviderServer:
    """What it charged is in `provider.ledger`, and by the attempt that a header names.

    Attributes:
        url: where it listens.
    """

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.by_attempt: defaultdict[str, list[Charged]] = defaultdict(list)
        self.lock = threading.Lock()
        self.url = ""

    def charge(self, request: httpx2.Request) -> httpx2.Response:
        """Answer, and note what it cost."""
        with self.lock:
            before = len(self.provider.ledger)
            response = self.provider.answer(request)
            attempt = request.headers.get(ATTEMPT_HEADER, "")
            self.by_attempt[attempt] += self.provider.ledger[before:]
        return response


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: ProviderServer

    def handle(self) -> None:
        # A client that was killed hangs up wherever it was.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().finish()

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length", 0))
        content = self.rfile.read(size)
        if len(content) < size:
            self.close_connection = True
            return
        request = httpx2.Request(
            "POST",
            f"http://provider{self.path}",
            headers=list(self.headers.items()),
            content=content,
        )
        response = self.provider.charge(request)
        self._send(response)

    def _send(self, response: httpx2.Response) -> None:
        most = int(self.headers.get(BREAK_HEADER, 10_000))
        self.send_response(response.status_code)
        self.send_header("content-type", response.headers["content-type"])
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        assert isinstance(response.stream, httpx2.SyncByteStream)
        for number, part in enumerate(response.stream):
            if number >= most:
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Server(http.server.ThreadingHTTPServer):
    # Closing waits for the threads: none is left when a test ends.
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.problems: list[BaseException | None] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.problems.append(sys.exc_info()[1])


@contextlib.contextmanager
def serving(provider: Provider | None = None) -> Iterator[ProviderServer]:
    """Serve a provider on a port of this machine."""
    made = ProviderServer(provider or Provider())
    handler = type("Handler", (_Handler,), {"provider": made, "timeout": 30})
    with _Server(("127.0.0.1", 0), handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
    assert server.problems == []
