"""Takes payloads and secrets out of a run's events before they leave.

Sentry's SDK has turned local variables into JSON-like text by the time an event processor sees
them, and adds what frameworks know of the HTTP request, whose body holds the executor's whole
payload: events, step results, everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from sentry_sdk.consts import VERSION
from sentry_sdk.utils import current_stacktrace

if TYPE_CHECKING:
    from sentry_sdk.types import Event

Decrypted = Literal["frame_variables", "exception_values", "log_messages", "payloads"]
"""Names for `send_decrypted`: what may leave although the stack keeps payloads secret."""

DECRYPTED: Final[frozenset[str]] = frozenset(get_args(Decrypted))

FILTERED: Final = "[Filtered]"
FILTERED_PAYLOAD: Final = "[Filtered: payload of the run]"

_MIN_LEAF = 4  # characters; shorter values are in every text
_MAX_NEEDLE = 16  # Sentry shortens long texts, so look for beginnings
_MAX_LEAVES = 2000  # a bigger payload is not searched for: all variables go
_QUERY_KEYS = ("http.query", "http.fragment", "url.query", "url.fragment", "url.full")
_GEN_AI_KEPT = (
    "gen_ai.operation",
    "gen_ai.provider",
    "gen_ai.system",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage",
)
_PLUGIN_MODULES = ("inngest.", "inngest_plugins.")
_THIS_PLUGIN = "inngest_plugins.sentry."

STACKS_FOR_CHECK_INS: Final = tuple(map(int, VERSION.split(".")[:2])) < (2, 70)
"""Older releases attach a stack trace, with variables, to check-ins too."""

Payloads = Callable[[], Iterable[object]]


@dataclass(frozen=True, slots=True)
class Privacy:
    """The rules for the events of one stack.

    Attributes:
        secret: a plugin of the stack keeps payloads secret.
        send_payloads: the user wants payloads in events.
        send_decrypted: what the user wants in the clear although the stack keeps payloads secret.
    """

    secret: bool
    send_payloads: bool
    send_decrypted: Collection[str]

    def allows(self, what: Decrypted) -> bool:
        """Return whether decrypted data may leave in this place of an event."""
        return not self.secret or what in self.send_decrypted

    @property
    def allows_payloads(self) -> bool:
        """Return whether payloads may be added to events."""
        return self.send_payloads and self.allows("payloads")

    def clean(
        self,
        event: Event,
        *,
        payloads: Payloads,
        event_key: str | None,
        options: Mapping[str, Any],
    ) -> None:
        """Take out of an event, in place, what must not leave.

        Args:
            event: an error, message or transaction event of a run, with the scope's data applied.
            payloads: returns the run's event data and step results, the values to look for.
            event_key: the client's event key, part of the URL events are sent to.
            options: the options of Sentry's client: `attach_stacktrace` among them.
        """
        raw: Any = event
        request = raw.get("request")
        if isinstance(request, dict):
            request.pop("data", None)
        if options.get("attach_stacktrace") and raw.get("type") is None and not _has_stack(raw):
            _attach_stack(raw, options, variables=self.allows("frame_variables"))
        self._clean_frames(raw, payloads)
        if not self.allows("exception_values"):
            for exception in _values(raw, "exception"):
                if exception.get("value"):
                    exception["value"] = FILTERED
        if not self.allows("log_messages"):
            _filter_logs(raw)
        if self.secret:
            _filter_requests(raw)
        if event_key:
            _filter_event_key(raw, f"/e/{event_key}")

    def _clean_frames(self, raw: Any, payloads: Payloads) -> None:
        frames = list(_frames(raw))
        for frame in frames:
            if str(frame.get("module") or "").startswith(_PLUGIN_MODULES):
                # Variables of these frames hold requests, payloads and keys, and do not help the
                # user.
                frame["in_app"] = False
                frame.pop("vars", None)
        if self.allows("frame_variables"):
            if frames and not self.send_payloads:
                _filter_variables(frames, payloads)
            return
        for frame in frames:
            frame.pop("vars", None)


OWN_LOGS: Final = Privacy(
    secret=True, send_payloads=False, send_decrypted=("exception_values", "log_messages")
)
"""Loggers of the plugins: their messages quote no payload, but their frames hold some."""


def _values(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    holder = raw.get(key)
    values = holder.get("values") if isinstance(holder, dict) else None
    return (
        [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    )


def _has_stack(raw: Mapping[str, Any]) -> bool:
    return any(key in raw for key in ("exception", "threads", "stacktrace"))


def _attach_stack(raw: dict[str, Any], options: Mapping[str, Any], *, variables: bool) -> None:
    """Attach the stack trace that Sentry would attach after the event processors, uncleaned."""
    stack = current_stacktrace(
        include_local_variables=variables and bool(options.get("include_local_variables", True)),
        max_value_length=options.get("max_value_length"),
    )
    frames = stack["frames"]
    while frames and str(frames[-1].get("module") or "").startswith(_THIS_PLUGIN):
        frames.pop()
    raw["threads"] = {"values": [{"stacktrace": stack, "crashed": False, "current": True}]}


def stacks_of(event: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield the list of frames of each stack trace of an event."""
    for holder in (*_values(event, "exception"), *_values(event, "threads"), event):
        stack = holder.get("stacktrace")
        frames = stack.get("frames") if isinstance(stack, dict) else None
        if isinstance(frames, list):
            yield frames


def _frames(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for frames in stacks_of(raw):
        for frame in frames:
            if isinstance(frame, dict):
                yield frame


# ---------------------------------------------------------------- variables


def _filter_variables(frames: list[dict[str, Any]], payloads: Payloads) -> None:
    """Replace variables that show a value of the run's payloads, whatever they are called."""
    texts = [
        (holder, name, _text(value))
        for frame in frames
        if isinstance(holder := frame.get("vars"), dict)
        for name, value in holder.items()
    ]
    if not texts:
        return
    needles = _needles(payloads())
    if needles is None:
        for holder, name, _ in texts:
            holder[name] = FILTERED_PAYLOAD
        return
    everything = "\0".join(text for _, _, text in texts)
    present = [needle for needle in needles if needle in everything]
    for holder, name, text in texts:
        if any(needle in text for needle in present):
            holder[name] = FILTERED_PAYLOAD


def _needles(payloads: Iterable[object]) -> set[str] | None:
    """Return the beginnings of all values, as they are shown; None when there are too many."""
    needles: set[str] = set()
    pending: list[object] = list(payloads)
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
        elif isinstance(value, str):
            # Strings are shown as their repr, or as a part of the repr of what holds them.
            needles.update({value[:_MAX_NEEDLE], repr(value[:_MAX_NEEDLE])[1:-1]})
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            needles.add(repr(value))
        if len(needles) > _MAX_LEAVES or len(pending) > _MAX_LEAVES:
            return None
    return {needle for needle in needles if len(needle) >= _MIN_LEAF}


def _text(value: object) -> str:
    parts: list[str] = []
    pending: list[object] = [value]
    while pending:
        item: Any = pending.pop()
        if type(item).__name__ == "AnnotatedValue":
            item = item.value
        if isinstance(item, Mapping):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        else:
            parts.append(str(item))
    return "\0".join(parts)


# ---------------------------------------------------------------- logs and requests


def _filter_logs(raw: dict[str, Any]) -> None:
    for crumb in _values(raw, "breadcrumbs"):
        if crumb.get("type") == "log":
            crumb["message"] = FILTERED
            crumb.pop("data", None)
    if "log_record" in raw or "logentry" in raw:
        raw["logentry"] = {"message": FILTERED}
        raw.pop("extra", None)
    if isinstance(raw.get("message"), str):
        raw["message"] = FILTERED


def _filter_requests(raw: dict[str, Any]) -> None:
    spans = raw.get("spans")
    holders = [*_values(raw, "breadcrumbs"), *(spans if isinstance(spans, list) else ())]
    for holder in holders:
        data = holder.get("data") if isinstance(holder, dict) else None
        if not isinstance(data, dict):
            continue
        for key in [key for key in data if _may_hold_values(str(key))]:
            del data[key]


def _may_hold_values(key: str) -> bool:
    if key.startswith("gen_ai."):
        return not key.startswith(_GEN_AI_KEPT)
    return key in _QUERY_KEYS or key.startswith(("db.params", "db.query.parameter"))


def _filter_event_key(raw: dict[str, Any], path: str) -> None:
    """Hide the event key, which is a secret, in the URLs that HTTP integrations note down."""
    spans = raw.get("spans")
    notes = [*_values(raw, "breadcrumbs"), *(spans if isinstance(spans, list) else ())]
    holders = [*notes, *(note.get("data") for note in notes)]
    for container in (*holders, *(frame.get("vars") for frame in _frames(raw))):
        if isinstance(container, dict):
            for key, value in container.items():
                if isinstance(value, str) and path in value:
                    container[key] = value.replace(path, f"/e/{FILTERED}")
