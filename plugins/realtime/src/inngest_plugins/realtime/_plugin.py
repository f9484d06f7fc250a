"""`RealtimePlugin`: the options for all messages of an app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from inngest_plugins.core import Call, Plugin, Stack, check_seconds, check_switch

from ._errors import PublishContextError
from ._publishing import MESSAGES, Options, RunMessages


class RealtimePlugin(Plugin):
    """Lets functions publish to realtime channels once in a run, and not once per replay.

    Args:
        strict: whether a message that cannot be published is an error for the code that publishes
            it; by default it is logged, once a request.
        timeout: seconds that one try to publish may take.

    Raises:
        PublishContextError: an option has a value that it cannot have.

    Example:
        ```python
        client = inngest.Inngest(app_id="shop", middleware=[RealtimePlugin()])
        ```
    """

    one_per_list: ClassVar[bool] = True

    def __init__(self, *, strict: bool = False, timeout: float = 5.0) -> None:
        check_switch("RealtimePlugin(strict=...)", strict)
        check_seconds("RealtimePlugin(timeout=...)", timeout, error=PublishContextError)
        self._options = Options(strict=strict, timeout=timeout)

    def transform_input(self, call: Call) -> None:
        """Let the code of this request publish."""
        call[MESSAGES] = RunMessages(self._options)

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Yield a finding for the doctor: messages leave in plaintext, or not at all."""
        if stack.secret_payloads:
            yield (
                "realtime messages are not encrypted: only topics with plaintext=True can be "
                "published to, and the engine and every subscriber read those"
            )
