"""Wrong options of the metadata plugin are named where they are given."""

from __future__ import annotations

from typing import Any

import inngest
import pytest

from inngest_plugins.metadata import Limits, MetadataClient, MetadataKeyError, MetadataPlugin

CLIENT = inngest.Inngest(app_id="shop", is_production=False)


@pytest.mark.parametrize("make", [MetadataPlugin, lambda **given: MetadataClient(CLIENT, **given)])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limits": {"run_bytes": 1}}, TypeError, "takes Limits.* not dict"),
        ({"timeout": "5"}, ValueError, r"timeout=\.\.\.\).* seconds above 0, not str"),
        ({"timeout": 0}, ValueError, "seconds above 0, not 0$"),
        ({"timeout": True}, ValueError, "seconds above 0, not bool"),
        ({"timeout": float("nan")}, ValueError, "seconds above 0, not nan"),
        ({"timeout": float("inf")}, ValueError, "seconds above 0, not inf"),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(
    make: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """At construction: the plugin fails open, so that it would otherwise only show in the log."""
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize("option", ["strict", "realtime"])
@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_a_switch_takes_true_or_false_only(option: str, value: object) -> None:
    """The text of an environment variable, which would count as True, is named and refused."""
    given: dict[str, Any] = {option: value}
    with pytest.raises(TypeError, match=rf"{option}=.*True or False, not {type(value).__name__}"):
        MetadataPlugin(**given)


def test_a_metadata_client_needs_a_client() -> None:
    """Not the id of an app, and not the plugin."""
    for given in ("shop", None, MetadataPlugin()):
        wrong: Any = given
        with pytest.raises(TypeError, match=r"takes an inngest\.Inngest, not"):
            MetadataClient(wrong)


@pytest.mark.parametrize("size", ["x", None, True, 1.5, -1, 0])
def test_a_limit_is_a_number_of_bytes(size: Any) -> None:
    """Where it is given: the plugin fails open, and nothing would be recorded."""
    with pytest.raises(ValueError, match=r"Limits\(run_bytes=.*above 0"):
        Limits(run_bytes=size)


@pytest.mark.parametrize("wrong", [5, None, ["a"], "\ud800"])
def test_names_of_the_wrong_kind_are_named(wrong: Any) -> None:
    """Also those that have no hash, and texts that cannot be sent."""
    writer = MetadataClient(CLIENT).run("01HZZZZZZZZZZZZZZZZZZZZZZZ")
    with pytest.raises(MetadataKeyError, match="a metadata key "):
        writer.set(wrong, 1)
    with pytest.raises(MetadataKeyError, match="run id "):
        MetadataClient(CLIENT).run(wrong)
    if wrong is not None:
        with pytest.raises(MetadataKeyError, match="a metadata kind "):
            writer.set("a", 1, kind=wrong)
