"""Budgets in Redis: each change is one Lua script, and so atomic."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from inngest_plugins.core import ArgumentError, class_name, require_extra

from .stores import Balance

if TYPE_CHECKING:
    from redis import Redis

# Both keys of an account are in one cluster slot by the braces. Reservations are a hash of
# "<amount>:<lapses at>". Redis' own clock decides: the workers' may differ.
_RESERVED = """
local now = tonumber(redis.call('TIME')[1])
local reserved = 0
local held = redis.call('HGETALL', KEYS[2])
for i = 1, #held, 2 do
  local amount, lapses = string.match(held[i + 1], '^(%d+):(%d+)$')
  if tonumber(lapses) <= now then redis.call('HDEL', KEYS[2], held[i])
  else reserved = reserved + tonumber(amount) end
end
local spent = tonumber(redis.call('GET', KEYS[1]) or '0')
"""

_RESERVE = (
    _RESERVED
    + """
local amount, limit, seconds = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local granted = 0
if spent + reserved < limit and spent + reserved + amount <= limit then
  granted = 1
  if amount > 0 then
    redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f:%.0f', amount, now + seconds))
    if redis.call('TTL', KEYS[2]) < seconds then redis.call('EXPIRE', KEYS[2], seconds) end
  end
end
return {string.format('%.0f', spent), string.format('%.0f', reserved), granted}
"""
)

_SETTLE = """
redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
for _, reservation in ipairs(cjson.decode(ARGV[3])) do redis.call('HDEL', KEYS[2], reservation) end
"""

_BALANCE = _RESERVED + "return {string.format('%.0f', spent), string.format('%.0f', reserved), 1}"


class RedisBudgetStore:
    """A store in Redis 5 or later.

    Args:
        redis: a client of the `redis` package, sync. The app keeps and closes it.
        prefix: of the keys.

    Raises:
        MissingExtraError: `redis` is not installed.
        ArgumentError: this is no client, or an async one.
    """

    def __init__(self, redis: Redis, *, prefix: str = "inngest-budget") -> None:
        require_extra("ai", "redis")
        execute = getattr(redis, "execute_command", None)
        if execute is None or inspect.iscoroutinefunction(execute):
            raise ArgumentError(
                "RedisBudgetStore(...) takes a sync client, as in RedisBudgetStore(redis.Redis()), "
                f"not {class_name(redis)} of {type(redis).__module__}"
            )
        self._prefix = prefix
        self._redis = client = cast("Any", redis)
        self._reserve = client.register_script(_RESERVE)
        self._settle = client.register_script(_SETTLE)
        self._balance = client.register_script(_BALANCE)

    def reserve(
        self, account: str, *, reservation: str, amount: int, limit: int, seconds: float
    ) -> Balance:
        """See `BudgetStore.reserve`."""
        args = [reservation, amount, limit, math.ceil(seconds)]
        return _read(self._reserve(keys=self._keys(account), args=args))

    def settle(
        self, account: str, *, spent: int, reservations: Sequence[str], seconds: float
    ) -> None:
        """See `BudgetStore.settle`."""
        args = [spent, math.ceil(seconds), json.dumps(list(reservations))]
        self._settle(keys=self._keys(account), args=args)

    def balance(self, account: str) -> Balance:
        """See `BudgetStore.balance`."""
        return _read(self._balance(keys=self._keys(account), args=[]))

    def accounts(self) -> list[str]:
        """Return the names of the accounts; it goes through all keys of the database."""
        start = f"{self._prefix}:{{"
        literal = re.sub(r"([\\\[\]*?^-])", r"\\\1", start)
        found: set[str] = set()
        for key in self._redis.scan_iter(match=f"{literal}*"):
            name = key.decode() if isinstance(key, bytes) else str(key)
            account, end, _ = name.removeprefix(start).rpartition("}:")
            if end:
                found.add(account)
        return sorted(found)

    def _keys(self, account: str) -> list[str]:
        slot = f"{self._prefix}:{{{account}}}"
        return [f"{slot}:spent", f"{slot}:reserved"]


def _read(reply: Sequence[Any]) -> Balance:
    spent, reserved, granted = reply
    return Balance(int(spent), int(reserved), bool(granted))
