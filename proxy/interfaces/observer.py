"""Where facts go: logs and metrics are two readings of the same facts."""

from __future__ import annotations

from typing import Protocol

from proxy.domain.facts import Fact


class Observer(Protocol):
    def observe(self, fact: Fact) -> None:
        """Take note. Must not raise, block or await."""
