"""Opens what the app's plugins sealed: this process runs the app, so it holds the keys."""

from __future__ import annotations

import typing

import inngest

from inngest_plugins.core import RegistrationError, SealedPlace, Stack, open_sealed

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from inngest_plugins.local.journal.records import Json

Kind = typing.Literal["event", "step", "output", "error", "input"]
_ON_FAILURE: typing.Final = "-failure"


class Opener:
    """Opens stored values with the plugins of the functions that they belong to.

    What cannot be opened (another key ring, no plugin) comes back as it is stored.

    Args:
        client: The client of the functions; None opens nothing.
        functions: The functions.
    """

    def __init__(
        self,
        client: inngest.Inngest | None = None,
        functions: Sequence[inngest.Function[typing.Any]] = (),
    ) -> None:
        self._client = client
        self._functions = {function.id: function for function in functions}

    def place(self, function_id: str, run_id: str) -> OpenerOfRun:
        """Open the values of one run.

        Args:
            function_id: The full id of its function, ``"<app>-<function>"``.
            run_id: Its id.
        """
        if self._client is None:
            return OpenerOfRun(Stack(), SealedPlace("output", ""))
        app_id = self._client.app_id
        local_id = function_id.removeprefix(f"{app_id}-")
        stack = self._stack_of(self._client, function_id)
        return OpenerOfRun(stack, SealedPlace("output", app_id, local_id, run_id))

    def is_secret(self, function_id: str) -> bool:
        """Whether a plugin keeps a function's payloads secret, so that no text may quote them.

        Args:
            function_id: The full id, ``"<app>-<function>"``.
        """
        client = self._client
        return client is not None and self._stack_of(client, function_id).secret_payloads

    def _stack_of(self, client: inngest.Inngest, function_id: str) -> Stack:
        function = self._functions.get(function_id)
        if function is None:
            function = self._functions.get(function_id.removesuffix(_ON_FAILURE))
        try:
            return Stack.of(client, function)
        except RegistrationError:
            # The run has failed with it; what it left can be shown all the same.
            return Stack()


class OpenerOfRun:
    """Opens the values of one run.

    Args:
        stack: The plugins of its function.
        place: Its app, function and run.
    """

    def __init__(self, stack: Stack, place: SealedPlace) -> None:
        self._stack = stack
        self._place = place

    def _open(
        self, value: Json, kind: Kind, hashed_id: str | None = None, event_name: str | None = None
    ) -> Json:
        run = self._place
        place = SealedPlace(
            kind,
            run.app_id,
            run.function_id,
            run.run_id,
            hashed_id=hashed_id,
            event_name=event_name,
        )
        return open_sealed(self._stack, value, place)

    def output(self, value: Json) -> Json:
        """What the function returned."""
        return self._open(value, "output")

    def error(self, error: Json, hashed_id: str | None = None) -> Json:
        """An error with message and stack, of a step or of the function."""
        return self._open(error, "error", hashed_id) if isinstance(error, dict) else error

    def result(self, value: Json, hashed_id: str) -> Json:
        """The data that a step gave."""
        return self._open(value, "step", hashed_id)

    def event(self, event: dict[str, Json]) -> dict[str, Json]:
        """An event with its data."""
        if not isinstance(event.get("data"), dict):
            return event
        return {**event, "data": self._open(event["data"], "event", event_name=str(event["name"]))}

    def memo(self, memo: Json, hashed_id: str) -> Json:
        """A step's memo, with its envelope."""
        if not isinstance(memo, dict):
            return memo
        held = typing.cast("dict[str, Json]", memo)
        if held and held.keys() <= {"data", "error"}:
            opened = dict(held)
            if "data" in held:
                opened["data"] = self.result(held["data"], hashed_id)
            if held.get("error") is not None:
                opened["error"] = self.error(held["error"], hashed_id)
            return opened
        return self.result(held, hashed_id)

    def input(self, data: Json) -> Json:
        """The data of an invoke or of a deferred function."""
        return self._open(data, "input") if isinstance(data, dict) else data

    def options(self, opts: Json) -> Json:
        """What an op asked for: the data of an invoke."""
        if not isinstance(opts, dict):
            return opts
        held = typing.cast("dict[str, Json]", opts)
        payload = held.get("payload")
        if not isinstance(payload, dict) or not isinstance(payload.get("data"), dict):
            return held
        payload = typing.cast("dict[str, Json]", payload)
        return {**held, "payload": {**payload, "data": self.input(payload["data"])}}

    def op(self, op: Json) -> Json:
        """A step op of an answer."""
        if not isinstance(op, dict):
            return op
        held = typing.cast("dict[str, Json]", op)
        hashed_id = str(held.get("id"))
        opened = dict(held)
        if "data" in held:
            opened["data"] = self.memo(held["data"], hashed_id)
        if "error" in held:
            opened["error"] = self.error(held["error"], hashed_id)
        if "opts" in held:
            opened["opts"] = self.options(held["opts"])
        return opened

    def answer(self, body: Json, status: int) -> Json:
        """The body of an answer: ops, what the function returned, or its error."""
        if status == 206:
            ops = typing.cast("list[Json]", body)
            return [self.op(op) for op in ops] if isinstance(body, list) else body
        return self.output(body) if status == 200 else self.error(body)
