"""Whether to send commands ahead to one server: what it announces need not be true."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.domain.policy import DAY

DISTRUST = DAY
"""Seconds without pipelining once a server has shown that it cannot."""

ENDINGS = 2
"""Connections in a row that ended with commands sent ahead and nothing received whole: one may be
the network, two are the server."""


@dataclass(slots=True)
class PipelineTrust:
    """One server's; times are the event loop's."""

    distrusted_until: float = 0.0
    _endings: int = 0

    def holds(self, now: float) -> bool:
        return now >= self.distrusted_until

    def went_well(self) -> None:
        """A session with commands sent ahead came to its end."""
        self._endings = 0

    def failed(self, now: float, *, progress: bool, ended: bool) -> None:
        """A session broke with commands sent ahead.

        `ended`: the connection did; otherwise the server fell silent, or gave answers that are
        none. `progress`: messages had come whole before that.
        """
        if not ended:
            self.distrusted_until = now + DISTRUST
        elif not progress:
            self._endings += 1
            if self._endings >= ENDINGS:
                self.distrusted_until = now + DISTRUST
                self._endings = 0
