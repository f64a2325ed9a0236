"""Where facts go: logs and metrics are two readings of the same facts."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from proxy.domain.facts import Fact

work_id: ContextVar[str] = ContextVar("work_id", default="")
"""Which device session or sync the facts observed here belong to, for telling their lines apart.

Set by whoever begins one, and carried along by asyncio's tasks.
"""

ID_OCTETS = 4
"""Of chance in an id: enough to tell the lines of a day apart."""


class Observer(Protocol):
    def observe(self, fact: Fact) -> None:
        """Take note. Must not raise, block or await."""
