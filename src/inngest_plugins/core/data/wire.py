"""What a value looks like when the engine has stored it and sent it back."""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

from inngest_plugins.core.base.json_numbers import read_integer, read_number


def through_the_wire(value: Any) -> Any:
    """Return the value that a replay gives for one that a step returned.

    The engine keeps JSON and writes it in canonical form (RFC 8785): a tuple comes back as a list,
    `1.0` as `1`, keys in order, an integer beyond 2**53 as the nearest double.

    Raises:
        TypeError: it is not JSON.
        ValueError: it holds NaN or an infinity, which JSON lacks, or refers to itself.
    """
    if value is None or type(value) is str or type(value) is bool:
        return value
    return json.loads(
        json.dumps(value, allow_nan=False),
        parse_float=read_number,
        parse_int=read_integer,
        object_pairs_hook=_sorted,
    )


def _sorted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(pairs, key=itemgetter(0)))
