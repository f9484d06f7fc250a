"""Fixtures: the rigs of the composition suite."""

from tests.composition.conftest import make_rig, rig

__all__ = ["make_rig", "rig"]
