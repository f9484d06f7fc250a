"""Wrong arguments of the engine are named in the error."""

from __future__ import annotations

import pathlib
import typing

import inngest
import pytest

from inngest_plugins.local import LocalEngine, LocalEngineError, RealClock, VirtualClock

client = inngest.Inngest(app_id="shop", is_production=False)
HOW = r"pass inngest\.Event\(name=\.\.\., data=\.\.\.\)"


@client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"))
async def function(ctx: inngest.Context) -> str:
    """Completes."""
    return "done"


async def undecorated(ctx: inngest.Context) -> None:
    """No Inngest function."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client": "c"}, "^client must be an inngest.Inngest client, not str$"),
        ({"client": inngest.Inngest}, "^client must be .*, not the class Inngest$"),
        ({"functions": [undecorated]}, "create_function.*'undecorated': is its decorator missing"),
        ({"functions": [3]}, "^functions must be a list of .* is of type int$"),
        ({"functions": "f"}, "^functions must be a list of Inngest functions, not str$"),
        ({"functions": function}, "^functions must be a list of Inngest functions, not Function$"),
        ({"clock": "real"}, r"^clock must be .* RealClock\(\), not str$"),
        ({"clock": RealClock}, r"^clock must be .* RealClock\(\), not the class RealClock$"),
        ({"journal": 3}, "^journal must be the path of a file .* not int$"),
        ({"serve": 3}, "^serve must be a function of client and functions .*, not int$"),
        ({"serve_path": 3}, "^serve_path must be the path of a URL or None, not int$"),
        ({"infer": 3}, "^infer must be a function .* or None, not int$"),
        ({"request_timeout": None}, "^request_timeout must be a number of seconds, not NoneType$"),
        ({"retry_interval": "3"}, "^retry_interval must be a number of seconds or None, not str$"),
    ],
)
def test_the_engine_names_a_wrong_argument(arguments: dict[str, typing.Any], message: str) -> None:
    """An argument of a wrong type is a TypeError that says what it takes."""
    given: dict[str, typing.Any] = {"client": client, "functions": [function], **arguments}
    with pytest.raises(TypeError, match=message):
        LocalEngine(**given)


@pytest.mark.parametrize("name", ["request_timeout", "retry_interval"])
def test_the_engine_takes_no_nan(name: str) -> None:
    """It would fail each attempt, or end the run, when it is too late to see why."""
    nan: dict[str, typing.Any] = {name: float("nan")}
    with pytest.raises(ValueError, match=f"^{name} must be a number of seconds, not NaN$"):
        LocalEngine(client, [function], **nan)
    with pytest.raises(ValueError, match=r"patience=nan.*not negative"):
        VirtualClock(float("nan"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"retry_interval": float("inf")}, r"^retry_interval .*\(a century\), not inf$"),
        ({"retry_interval": -1}, r"^retry_interval must be from 0 to .*, not -1$"),
        ({"request_timeout": 0}, "^request_timeout must be more than 0 seconds, not 0$"),
        ({"request_timeout": -1}, "^request_timeout must be more than 0 seconds, not -1$"),
        ({"serve_path": "api/inngest"}, "^serve_path must begin with a slash, .*'api/inngest'$"),
    ],
)
def test_the_engine_takes_no_value_that_no_run_survives(
    argument: dict[str, typing.Any], message: str
) -> None:
    """Every attempt would fail, or the app not be found, when it is too late to see why."""
    with pytest.raises(ValueError, match=message):
        LocalEngine(client, [function], **argument)


def test_the_patience_of_a_clock_is_a_number() -> None:
    """A text is named, and a switch is none."""
    for given in ("1", None, True):
        wrong: typing.Any = given
        with pytest.raises(TypeError, match=r"patience=\.\.\.\) must be a number of seconds, not"):
            VirtualClock(wrong)


@pytest.mark.anyio
async def test_a_path_at_which_nothing_is_served_is_named() -> None:
    """The app that the engine makes serves where the environment says."""
    with pytest.raises(LocalEngineError, match="nothing is served at '/elsewhere': see serve_path"):
        async with LocalEngine(client, [function], serve_path="/elsewhere"):
            pass


def test_right_arguments_are_taken(tmp_path: pathlib.Path) -> None:
    """Every kind of value that is documented is accepted, and any sequence of functions."""
    for clock in (None, RealClock(), VirtualClock()):
        LocalEngine(client, (function,), tmp_path / "j", clock, request_timeout=3, retry_interval=0)
    LocalEngine(client, [function], request_timeout=float("inf"), serve_path="", infer=None)
    run = LocalEngine(client, [function]).run_sync((inngest.Event(name="go"),), function, 3)
    assert run.output == "done"


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"name": "e", "data": {}}, f"^events must be .*{HOW}\\), not dict$"),
        ("e", f"^events must be .*{HOW}\\), not str$"),
        (3, "^events must be .* not int$"),
        ([{"name": "e"}], f"^each of the events must be an inngest.Event .{HOW}\\), not dict$"),
        (inngest.Event, "^events must be .* not the class Event$"),
    ],
)
@pytest.mark.anyio
async def test_what_is_no_event_is_refused(events: typing.Any, message: str) -> None:
    """`run` and `send` say how an event is made."""
    async with LocalEngine(client, [function]) as engine:
        with pytest.raises(TypeError, match=message):
            await engine.run(events)
        with pytest.raises(TypeError, match=message):
            await engine.send(events)
        assert engine.runs == []


def test_run_sync_refuses_what_is_no_event() -> None:
    """The face for scripts says it too."""
    for events in ({"name": "e", "data": {}}, "e"):
        wrong: typing.Any = events
        with pytest.raises(TypeError, match=HOW):
            LocalEngine(client, [function]).run_sync(wrong)


@pytest.mark.anyio
async def test_the_other_arguments_of_run_are_checked() -> None:
    """So are the time limit and the function."""
    wrong: typing.Any = "3"
    async with LocalEngine(client, [function]) as engine:
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds or None"):
            await engine.run(inngest.Event(name="go"), timeout=wrong)
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds or None"):
            await engine.settle(wrong)
        wrong = undecorated
        with pytest.raises(TypeError, match=r"^function must be an Inngest function or its id"):
            await engine.run(inngest.Event(name="go"), wrong)
