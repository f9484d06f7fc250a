"""Two objects of one plugin class in one list, where they make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from inngest_plugins.core import RegistrationError, Stack
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.otel import OpenTelemetryPlugin
from inngest_plugins.sentry import SentryPlugin


@pytest.mark.parametrize("kind", [SentryPlugin, OpenTelemetryPlugin, MetadataPlugin])
def test_two_of_a_class_are_refused(kind: Any) -> None:
    """Each would do what the other does: the message says where the second one may stand."""
    with pytest.raises(RegistrationError, match=f"two {kind.__name__} objects stand in one list"):
        Stack(kind(), kind())
