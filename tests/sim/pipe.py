"""One direction of a simulated connection: pieces on their way, in order.

Octets count as under way until the receiving protocol has taken them. The window bounds them, and
that is what makes a sender wait for a slow receiver.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from enum import Enum

from tests.sim.faults import FaultProfile, chance


class Kind(Enum):
    DATA = "data"
    HELLO = "hello"
    """The first flight of a TLS handshake."""
    FIN = "fin"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Piece:
    kind: Kind
    octets: bytes = b""
    tls: bool = False
    """Whether the octets were written after the sender's handshake was complete."""


class Pipe:
    def __init__(
        self,
        *,
        luck: random.Random,
        rules: Callable[[], FaultProfile],
        deliver: Callable[[Piece], None],
        broken: Callable[[], None],
        swallowed: Callable[[], None],
    ) -> None:
        """`broken` and `swallowed`: a fault struck that concerns the whole connection."""
        self._loop = asyncio.get_running_loop()
        # Callbacks on the wire belong to no process: octets under way survive their sender.
        self._nobody = Context()
        self._luck = luck
        self._rules = rules
        self._deliver = deliver
        self._broken = broken
        self._swallowed = swallowed
        self._queue: deque[tuple[float, Piece]] = deque()
        self._last = 0.0
        self._held_until = 0.0
        self._armed = False
        self.dark = False
        """Set: everything vanishes. The window stays full, as nothing is ever acknowledged."""
        self.under_way = 0

    @property
    def room(self) -> int:
        """Octets that may be sent now. None until half the window is free (RFC 9293 §3.8.6.2)."""
        window = self._rules().window
        free = window - self.under_way
        return free if 2 * free >= window else 0

    def send(self, piece: Piece) -> None:
        rules = self._rules()
        self.under_way += len(piece.octets)
        if self.dark:
            return
        if chance(self._luck, rules.stall_probability):
            self.hold(self._luck.uniform(*rules.stall))
        now = self._loop.time()
        arrival = max(self._last, now + self._luck.uniform(*rules.latency))
        if rules.rate is not None:
            arrival = max(arrival, max(self._last, now) + len(piece.octets) / rules.rate)
        self._last = arrival
        self._queue.append((self._last, piece))
        self._arm()

    def taken(self, octets: int) -> None:
        self.under_way -= octets

    def hold(self, seconds: float) -> None:
        """Deliver nothing for so long."""
        self._held_until = max(self._held_until, self._loop.time() + seconds)

    def drop(self) -> None:
        """Forget what is under way."""
        self._queue.clear()

    def _arm(self) -> None:
        if self._queue and not self._armed and not self.dark:
            self._armed = True
            when = max(self._queue[0][0], self._held_until)
            self._loop.call_at(when, self._arrive, context=self._nobody)

    def _arrive(self) -> None:
        self._armed = False
        now = self._loop.time()
        while self._queue and not self.dark and max(self._queue[0][0], self._held_until) <= now:
            self._meet_luck(self._queue.popleft()[1])
        self._arm()

    def _meet_luck(self, piece: Piece) -> None:
        # Drawn on arrival, so that a change of profile holds for what is already under way.
        rules = self._rules()
        if piece.octets and chance(self._luck, rules.reset_probability):
            self._deliver(self._head_of(piece))
            self._broken()
        elif piece.octets and chance(self._luck, rules.black_hole_probability):
            self._deliver(self._head_of(piece))
            self._swallowed()
        else:
            self._deliver(piece)

    def _head_of(self, piece: Piece) -> Piece:
        kept = self._luck.randint(0, len(piece.octets) - 1)
        return Piece(piece.kind, piece.octets[:kept], piece.tls)
