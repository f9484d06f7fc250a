"""Inference calls of ``step.ai``: the executor makes them, not the app.

The engine fetches nothing because a payload says so: without an ``infer=`` argument every AI step
fails with a message that says what to pass. `infer_over_http` makes the calls for real; a
function of your own can answer from a stub.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Awaitable, Callable

import httpx

from inngest_plugins.core import ArgumentError, class_name, safe_text
from inngest_plugins.local._foreign_code import CrashedError, isolated
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.wire.protocol import decode


@dataclasses.dataclass(frozen=True)
class InferenceRequest:
    """One inference call as an AI step asks for it.

    Attributes:
        url: The provider's URL.
        format: The provider's dialect, for example ``"openai-chat"``.
        headers: Headers, the credentials included.
        body: The JSON body.
    """

    url: str
    format: str
    headers: dict[str, str]
    body: Json

    @classmethod
    def from_opts(cls, opts: dict[str, Json]) -> InferenceRequest:
        """Read the opts of an ``AIGateway`` op."""
        headers = {str(name): str(value) for name, value in (opts.get("headers") or {}).items()}
        url, style, key = str(opts["url"]), str(opts.get("format") or ""), opts.get("auth_key")
        if key and style.startswith("anthropic"):
            headers = {"x-api-key": key, "anthropic-version": "2023-06-01", **headers}
        elif key and style.startswith("gemini"):
            url = str(httpx.URL(url).copy_set_param("key", key))
        elif key:
            headers = {"Authorization": f"Bearer {key}", **headers}
        return cls(url=url, format=style, headers=headers, body=opts.get("body"))


@dataclasses.dataclass(frozen=True)
class InferenceResponse:
    """The provider's answer; ``failure`` says why there is none."""

    status: int
    body: bytes
    failure: str | None = None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Json:
        """The body as JSON, or as text when it is not JSON."""
        try:
            return decode(self.body)
        except ValueError:
            return self.text


Infer = Callable[[InferenceRequest], InferenceResponse | Awaitable[InferenceResponse]]
"""Answers inference calls; may be ``async``."""


async def infer_over_http(request: InferenceRequest) -> InferenceResponse:
    """Make the call over the network, with a time limit of two minutes."""
    async with httpx.AsyncClient(timeout=120) as client:
        response = await client.post(request.url, headers=request.headers, json=request.body)
    return InferenceResponse(response.status_code, response.content)


def json_answer(body: Json, status: int = 200) -> InferenceResponse:
    """A stub's answer from a JSON value."""
    return InferenceResponse(status, json.dumps(body).encode())


async def run_inference(infer: Infer | None, request: InferenceRequest) -> InferenceResponse:
    """Call ``infer``; whatever goes wrong becomes an answer with a ``failure``."""
    if infer is None:
        hint = (
            "LocalEngine makes no inference calls by itself: pass infer=infer_over_http or a stub"
        )
        return InferenceResponse(501, json.dumps({"error": hint}).encode(), hint)
    try:
        return await isolated(_called(infer, request))
    except CrashedError as error:
        why = f"{class_name(error.cause)}: {safe_text(error.cause)}"
        return InferenceResponse(599, b'{"error":"Error making AI request"}', why)


async def _called(infer: Infer, request: InferenceRequest) -> InferenceResponse:
    given = infer(request)
    answer = await given if inspect.isawaitable(given) else given
    if not isinstance(typing.cast("object", answer), InferenceResponse):
        raise ArgumentError(f"infer= gave {class_name(answer)} instead of an InferenceResponse")
    return answer
