"""The canary: a text that only ever exists inside of payloads, and every form it could leak in."""

from __future__ import annotations

import base64
import html
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

# Put together here, so that no line of source (Sentry and tracebacks quote those) holds it.
HEAD = "zq" + "Canary" + str(7_301 * 9)
TAIL = 'Ω"' + "kan" + "arie" + "73'"


def secret(channel: str) -> str:
    """A canary that says where it was put in."""
    return f"{HEAD}<{channel}>{TAIL}"


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    """What is in the base64 of any text that holds `raw`, at each of the three alignments."""
    for offset in range(3):
        begin, end = (offset * 8 + 5) // 6, (offset + len(raw)) * 8 // 6
        encoded = base64.b64encode(b"\0" * offset + raw)[begin:end]
        yield encoded
        yield encoded.replace(b"+", b"-").replace(b"/", b"_")


def _forms(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    escaped = json.dumps(text)[1:-1].encode()
    yield "utf-8", raw
    yield "json", escaped
    yield "json in json", json.dumps(escaped.decode())[1:-1].encode()
    yield "utf-16-le", text.encode("utf-16-le")
    yield "utf-16-be", text.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "hex of json", escaped.hex().encode()
    yield "percent", quote(text).encode()
    yield "html", html.escape(text).encode()
    yield "html entities", html.escape(text).encode("ascii", "xmlcharrefreplace")
    for form in (raw, escaped):
        yield from (("base64", encoded) for encoded in _base64_forms(form))


FORMS: tuple[tuple[str, bytes], ...] = tuple(
    (name, form.lower()) for part in (HEAD, TAIL) for name, form in _forms(part)
)
"""Every form of either end of the canary, in lower case, which loses hex and base64 nothing."""


def leaks(where: str, content: bytes | str) -> Iterator[str]:
    """Say in which form the canary is in a text, with what stands before it."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    lowered = raw.lower()
    for name, form in FORMS:
        at = lowered.find(form)
        if at >= 0:
            shown = raw[max(0, at - 60) : at + len(form) + 20]
            yield f"{where}: {name}: ...{shown!r}"


def all_leaks(contents: Iterable[tuple[str, bytes | str]]) -> list[str]:
    """Every leak in named texts."""
    return [leak for where, content in contents for leak in leaks(where, content)]


class Records(logging.Handler):
    """Keeps what every logger says, as the strictest formatter would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []
        self.mine: frozenset[str] = frozenset()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, also what it carries beside its message."""
        extra: Mapping[str, object] = record.__dict__
        known = {"msg", "args", "exc_info", "exc_text", "message"}
        beside = {key: value for key, value in extra.items() if key not in known}
        self.lines.append(f"{self.format(record)} {beside!r}")
