"""Requests to the engine's API and their answers, over any transport."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping

from inngest_plugins.local.journal.records import Json


@dataclasses.dataclass(frozen=True)
class ApiRequest:
    """One request to the engine's API.

    Attributes:
        method: Upper case.
        path: Without the query.
        query: First value of each parameter.
        headers: Names in lower case.
        body: Raw.
        from_thread: Whether it came from another thread than the engine's.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    from_thread: bool = False


@dataclasses.dataclass(frozen=True)
class ApiResponse:
    """The answer to an `ApiRequest`."""

    status: int
    body: bytes
    content_type: str = "application/json"


Handler = Callable[..., ApiResponse]
"""Answers a request; the groups of the path's pattern are its arguments."""


class Routes:
    """Handlers by method and path.

    Args:
        routes: Method, pattern of the whole path, handler.
    """

    def __init__(self, *routes: tuple[str, str, Handler]) -> None:
        self._routes = [
            (method, re.compile(pattern), handler) for method, pattern, handler in routes
        ]

    def answer(self, request: ApiRequest) -> ApiResponse | None:
        """Answer a request; None when no handler matches it."""
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return handler(request, *match.groups())
        return None


def json_response(value: Json, status: int = 200) -> ApiResponse:
    """An answer with a JSON body."""
    return ApiResponse(status, json.dumps(value).encode())


def data_response(value: Json) -> ApiResponse:
    """An answer of API v1 with data."""
    return json_response({"data": value, "metadata": {"fetched_at": None, "cached_until": None}})


def error_response(status: int, message: str, data: Json = None) -> ApiResponse:
    """A refusal of API v1."""
    return json_response({"error": message, "data": data, "status": status}, status)
