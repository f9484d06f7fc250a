"""`InjectionPlugin`: scopes for requests and steps, health checks, overrides for tests."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
)
from typing import TYPE_CHECKING, Any, ClassVar

from inngest_plugins.core import (
    ArgumentError,
    Call,
    HealthCheck,
    Outcome,
    Plugin,
    Step,
    class_name,
    require_extra,
)

from ._call_scopes import SCOPES, CallScopes
from ._errors import InjectedValueError
from ._injected import InjectedObjects

if TYPE_CHECKING:
    import svcs


class InjectionPlugin(Plugin):
    """Gives functions, steps and hooks the services of a `svcs` registry.

    A step's services are opened when its handler asks for them and closed when it ends, before its
    result leaves; those of the function's body are closed with the request. Replay opens nothing
    that the code does not ask for.

    Factories can ask their container for the `Call`, for services that depend on the run:
    `container.get(Call).event`.

    Args:
        registry: the registry; the app keeps it, and closes it.

    Raises:
        MissingExtraError: the extra `injection` is not installed.
        ArgumentError: `registry` is not a `svcs.Registry`.

    Example:
        ```python
        registry = svcs.Registry()
        registry.register_factory(Session, open_session)
        client = inngest.Inngest(app_id="shop", middleware=[InjectionPlugin(registry)])
        ```
    """

    one_per_list: ClassVar[bool] = True

    def __init__(self, registry: svcs.Registry) -> None:
        require_extra("injection", "svcs")
        import svcs

        if not isinstance(registry, svcs.Registry):
            raise ArgumentError(
                f"InjectionPlugin(registry) is a svcs.Registry, not {class_name(registry)}"
            )
        self._registry = registry
        self._overrides: tuple[tuple[Any, object], ...] = ()
        self._changing = threading.Lock()

    # ------------------------------------------------------------ hooks

    def transform_input(self, call: Call) -> None:
        """Open the request's scope, which is empty."""
        self.begin(call)

    def begin(self, call: Call) -> CallScopes:
        """Return the scopes of a call. The first call makes them, to be closed with the request."""
        scopes = call.get(SCOPES)
        if scopes is None:
            from ._scope import AsyncClosing, Closing

            # A function's own plugin replaces the client's: it is the innermost.
            owner = [each for each in call.stack.plugins if isinstance(each, InjectionPlugin)][-1]
            scopes = call[SCOPES] = CallScopes(call, functools.partial(owner.open_container, call))
            if call.is_async:
                # A sync caller cannot await this, and need not: entering never waits.
                _finish(call.enter_async(AsyncClosing(scopes.request)).send)
            else:
                call.enter(Closing(scopes.request))
        return scopes

    def around_step(
        self, call: Call, step: Step
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Hold the step's scope open while its handler runs."""
        from ._scope import AsyncClosing, Closing

        scope = self.begin(call).begin_step(step)
        return AsyncClosing(scope) if call.is_async else Closing(scope)

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Refuse an injected object as a result."""
        scopes = self.begin(call)
        scope = scopes.of_step(outcome.step)
        what = (
            f"the result of function {call.local_id!r}"
            if outcome.step is None
            else f"the result of step {outcome.step.id!r} of function {call.local_id!r}"
        )
        try:
            for injected in (scopes.request.injected, None if scope is None else scope.injected):
                if injected and outcome.has_output:
                    _refuse(injected, outcome.output, what)
        finally:
            if scope is not None:
                scope.injected = InjectedObjects()

    # ------------------------------------------------------------ containers

    def open_container(self, call: Call) -> tuple[svcs.Container, frozenset[Any]]:
        """Make an empty container for a scope, and name the types that it has values for."""
        import svcs

        container = svcs.Container(self._registry)
        container.register_local_value(Call, call)
        overrides = dict(self._overrides)
        for service, value in overrides.items():
            container.register_local_value(service, value)
        return container, frozenset((Call, *overrides))

    # ------------------------------------------------------------ tools

    def override_service(self, service: Any, value: object) -> AbstractContextManager[None] | None:
        """Give code another value where it asks for a service, for tests.

        Args:
            service: the type that code asks for.
            value: what it gets; the innermost override of a type counts.
        """
        return self._replaced((service, value))

    @contextmanager
    def _replaced(self, override: tuple[Any, object]) -> Iterator[None]:
        with self._changing:
            self._overrides = (*self._overrides, override)
        try:
            yield
        finally:
            with self._changing:
                self._overrides = tuple(one for one in self._overrides if one is not override)

    def health_checks(self) -> Iterable[HealthCheck]:
        """Yield a check of each service with a `ping`; the check opens and closes the service."""
        import svcs

        for index, ping in enumerate(svcs.Container(self._registry).get_pings()):
            yield HealthCheck(ping.name, functools.partial(_ping, self._registry, index))


async def _ping(registry: svcs.Registry, index: int) -> None:
    import svcs

    async with svcs.Container(registry) as container:
        await container.get_pings()[index].aping()


def _refuse(injected: InjectedObjects, value: object, what: str) -> None:
    found = injected.find(value)
    if found is None:
        return
    name, path = found
    place = "".join(f"[{key!r}]" for key in path)
    raise InjectedValueError(
        f"{what} holds an injected {name}{f' at {place}' if place else ''}: services never leave "
        "the process. Return the data that you need of it"
    )


def _finish(send: Callable[[None], Any]) -> None:
    """Run a coroutine that never waits."""
    try:
        send(None)
    except StopIteration:
        return
    raise AssertionError("entering a scope waited for something")
