"""Checks the data of deferred functions, where it is deferred and where it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inngest_plugins.core import Call, Step

from .contracts import Contracts
from .schemas.schema import CompiledSchema, Rejection


class DeferredContracts:
    """Checks the data of deferred functions against schemas.

    Args:
        contracts: Checks single values.
        schemas: By the function's id, with the app's in front or without.
    """

    def __init__(self, contracts: Contracts, schemas: Mapping[str, CompiledSchema[Any]]) -> None:
        self._contracts = contracts
        self._schemas = schemas

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

    def check_deferral(self, call: Call, step: Step) -> None:
        """Check the data of a deferral, and put what is coerced in its place.

        Raises:
            ValidationFailed: It breaks the schema; raised where it was deferred.
        """
        if step.input is None:
            return
        target = str(step.input.get("fn_slug", ""))
        local = target.removeprefix(f"{call.app_id}-")
        checked = self._checked(call, (target, local), step.input.get("input"))
        if isinstance(checked, Rejection):
            raise checked.failure(f"data deferred to function {target} (id {step.id})", "outgoing")
        step.input = {**step.input, "input": checked}

    def check_arrived(self, call: Call) -> None:
        """Check the data that a deferred function is about to get.

        Raises:
            ValidationFailed: It breaks the schema. The run fails with it, without a retry.
        """
        checked = self._checked(call, (call.function_id, call.local_id), call.event.data)
        if isinstance(checked, Rejection):
            raise checked.failure(f"data deferred to function {call.function_id}", "incoming")
        for event in (call.event, *call.events):
            event.data = checked

    def _checked(self, call: Call, names: tuple[str, str], data: Any) -> Any:
        schema = next((self._schemas[name] for name in names if name in self._schemas), None)
        if schema is None:
            return data
        try:
            verdict = self._contracts.check(data, (schema,), mask_keys=call.stack.secret_payloads)
            self._contracts.check_sealed(verdict.schema, verdict.passed_on, call.stack)
        except Rejection as found:
            return found
        return verdict.passed_on
