"""The rigs of the composition suite serve here as well."""

from tests.composition.conftest import make_rig, rig

__all__ = ["make_rig", "rig"]
