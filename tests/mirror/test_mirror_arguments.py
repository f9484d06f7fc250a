"""Arguments that no run could have are refused by name; they never give an empty page."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import inngest
import pytest

from inngest_plugins.mirror import MirrorError, Scope, SQLAlchemyStore
from inngest_plugins.mirror.web.router import mirror_router

pytestmark = pytest.mark.anyio
EVERYTHING = Scope.of_everything()
CLIENT = inngest.Inngest(app_id="shop", is_production=False)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"status": "failed"}, "status is one of Queued, Running, Completed, Failed, "),
        ({"status": "Lots"}, "status is one of .*Lost"),
        ({"status": ""}, "status is one of"),
        ({"status": 5}, "status is a text, not int"),
        ({"function_id": 5}, "function_id is a text, not int"),
        ({"event_name": ["shop/order"]}, "event_name is a text, not list"),
        ({"after": 5}, "after is a text, not int"),
        ({"limit": "x"}, "limit is a whole number, not str"),
        ({"limit": 1.5}, "limit is a whole number, not float"),
        ({"limit": True}, "limit is a whole number, not bool"),
        ({"limit": None}, "limit is a whole number, not NoneType"),
        ({"tag": "a"}, "tag is a name and its value"),
        ({"tag": "ab"}, "tag is a name and its value"),
        ({"tag": ("plan",)}, "tag is a name and its value"),
        ({"tag": ("plan", 5)}, "tag is a name and its value"),
        ({"tag": {"plan": "pro"}}, "tag is a name and its value"),
    ],
)
async def test_a_wrong_filter_of_a_page(
    sqlite_store: SQLAlchemyStore, filters: dict[str, Any], message: str
) -> None:
    """The error names the filter and what it takes; the database is not asked."""
    with pytest.raises(MirrorError, match=message):
        await sqlite_store.runs(EVERYTHING, **filters)


@pytest.mark.parametrize(
    "status", ["Queued", "Running", "Completed", "Failed", "Cancelled", "Lost"]
)
async def test_every_status_of_a_run_is_a_filter(
    sqlite_store: SQLAlchemyStore, status: str
) -> None:
    """A page of an empty database is empty for each of them."""
    page = await sqlite_store.runs(EVERYTHING, status=status, tag=("plan", "pro"), limit=1000)
    assert page.runs == ()


async def test_a_run_is_named_by_a_text(sqlite_store: SQLAlchemyStore) -> None:
    """Another value is no id of a run that is not there."""
    wrong: Any = None
    with pytest.raises(MirrorError, match="run_id is a text, not NoneType"):
        await sqlite_store.run(wrong, EVERYTHING)


@pytest.mark.parametrize("option", ["since", "lost_after"])
async def test_a_comparison_takes_timedeltas(sqlite_store: SQLAlchemyStore, option: str) -> None:
    """They are looked at before the engine is asked."""
    given: dict[str, Any] = {option: 5}
    with pytest.raises(MirrorError, match=f"{option} is a timedelta, not int"):
        await sqlite_store.reconcile(CLIENT, **given)


@pytest.mark.parametrize("poll", [0, -1, True, "1", None, math.nan, math.inf])
def test_a_router_polls_at_a_finite_pace(sqlite_store: SQLAlchemyStore, poll: Any) -> None:
    """A stream that never looks again would show nothing."""
    with pytest.raises(MirrorError, match=r"poll=\.\.\.\) is a number of seconds above 0, not"):
        mirror_router(sqlite_store, client=CLIENT, authorise=lambda request: EVERYTHING, poll=poll)


async def test_runs_may_be_given_up_as_late_as_one_likes(
    sqlite_store: SQLAlchemyStore,
) -> None:
    """A `timedelta` beyond all calendars is as good as the first date."""
    from inngest_plugins.mirror.store.reconcile import moments

    now, oldest, lost_before = moments(dt.timedelta.max, dt.timedelta.max)
    assert oldest == lost_before < now


@pytest.mark.parametrize("option", ["store", "client"])
def test_a_router_needs_a_store_and_a_client(sqlite_store: SQLAlchemyStore, option: str) -> None:
    """What is none is named where it is given, and not with the first request."""
    given: dict[str, Any] = {"store": sqlite_store, "client": CLIENT, option: "shop"}
    with pytest.raises(
        MirrorError, match=rf"mirror_router\({option}\) is of the class .*, not str"
    ):
        mirror_router(authorise=lambda request: EVERYTHING, **given)


@pytest.mark.parametrize("steer", ["false", 0, None])
def test_who_may_steer_is_true_or_false(steer: Any) -> None:
    """The text "false" would count as True, and let a reader cancel runs."""
    with pytest.raises(MirrorError, match=r"Scope\(can_steer=\.\.\.\) is True or False"):
        Scope("acme", steer)
    with pytest.raises(MirrorError, match=r"Scope\(can_steer=\.\.\.\) is True or False"):
        Scope.of_everything(can_steer=steer)


def test_options_of_an_engine_are_a_mapping() -> None:
    """A number is named where it is given."""
    wrong: Any = 5
    with pytest.raises(MirrorError, match=r"engine_options=\.\.\.\) is a mapping .*, not int"):
        SQLAlchemyStore("sqlite:///mirror.db", engine_options=wrong)
