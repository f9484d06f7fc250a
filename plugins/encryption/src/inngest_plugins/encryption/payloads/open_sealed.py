"""Opens stored values for tools on the machine that holds the keys, such as reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inngest_plugins.encryption.formats.cipher import is_encrypted

from .contexts import FAILURE_MESSAGE, FAILURE_STACK, OUTPUT, StepContexts

if TYPE_CHECKING:
    from inngest_plugins.core import SealedPlace

    from .payloads import Payloads


class SealedValues:
    """Opens stored values for reports and assertions, as strictly as for the function itself.

    It refuses a value that was moved from the place it was written for: a report that showed it
    would make it look genuine.

    Args:
        payloads: decrypts single payloads.
    """

    __slots__ = ("_payloads",)

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    def open(self, value: Any, place: SealedPlace) -> Any:
        """Open one value; return a value that is not encrypted unchanged.

        Raises:
            DecryptionError: it cannot be opened, or not here.
        """
        if place.kind == "error":
            return self._open_error(value, place)
        if place.kind in ("event", "input"):
            is_data = isinstance(value, dict)
            name = place.event_name or ""
            return self._payloads.open_data(value, name, _where(place)) if is_data else value
        if not is_encrypted(value):
            return self._payloads.open_received(value, _where(place))
        contexts = self._contexts(place)
        expected = (OUTPUT,) if contexts is None else contexts[0].results(contexts[1])
        return self._payloads.open_envelope(value, expected, _where(place))

    def _open_error(self, error: Any, place: SealedPlace) -> Any:
        if not isinstance(error, dict):
            return error
        contexts = self._contexts(place)
        opened: dict[str, Any] = {}
        for part, of_function in (("message", FAILURE_MESSAGE), ("stack", FAILURE_STACK)):
            text = error.get(part)
            if isinstance(text, str):
                expected = (
                    (of_function,) if contexts is None else contexts[0].errors(contexts[1], part)
                )
                opened[part] = self._payloads.open_text(text, expected, _where(place))
        return {**error, **opened}

    def _contexts(self, place: SealedPlace) -> tuple[StepContexts, str] | None:
        """Return the contexts of the run's steps and the step; None for the function's own."""
        if place.hashed_id is None:
            return None
        contexts = StepContexts(
            place.app_id,
            place.function_id or "",
            place.run_id or "",
            binds_run=self._payloads.binds_run,
        )
        return contexts, place.hashed_id


def _where(place: SealedPlace) -> Any:
    return lambda: f"the {place.kind} of run {place.run_id}: $"
