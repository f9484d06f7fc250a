"""`Scope`: whose runs a user may see, and whether the user may cancel and rerun them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from inngest_plugins.core import check_switch, class_name
from inngest_plugins.mirror._errors import MirrorError

from .tables import runs
from .values import is_kept


@dataclass(frozen=True)
class Scope:
    """What one user may do: see the runs of one tenant, and perhaps cancel and rerun them.

    Args:
        tenant: as the `tenant` of `MirrorPlugin` returns it.
        can_steer: whether runs may be cancelled and rerun.

    Raises:
        MirrorError: the tenant is empty, no text, or one that no run has (longer than 255
            characters), or `can_steer` is neither True nor False. `Scope.of_everything()` is for
            operators.
    """

    tenant: str | None
    can_steer: bool = True
    _everything: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        check_switch("Scope(can_steer=...)", self.can_steer, error=MirrorError)
        if self._everything:
            return
        if not isinstance(self.tenant, str) or not self.tenant:
            raise MirrorError(
                f"Scope(tenant=...) is {class_name(self.tenant)} and no tenant's name: nothing is "
                "shown rather than everything. Operators' scope is Scope.of_everything()"
            )
        if not is_kept(self.tenant):
            raise MirrorError(
                "Scope(tenant=...) is longer than 255 characters, or has some that no database "
                "keeps: runs have no such tenant"
            )

    @classmethod
    def of_everything(cls, *, can_steer: bool = True) -> Scope:
        """Return the scope of an operator: the runs of all tenants, and nobody's."""
        return cls(None, can_steer, _everything=True)

    def condition(self) -> sa.ColumnElement[bool]:
        """Return the condition that every query has."""
        return sa.true() if self._everything else runs.c.tenant == self.tenant


def checked_scope(scope: Any) -> Scope:
    """Return a scope; refuse any other value.

    Raises:
        MirrorError: it is not a `Scope`.
    """
    if not isinstance(scope, Scope):
        raise MirrorError(f"a Scope is needed, not {class_name(scope)}: nothing is shown")
    return scope
