"""What one end of a simulated connection has been given to send and the window has not let out."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from tests.sim.faults import FaultProfile, chance
from tests.sim.pipe import Kind, Piece, Pipe

HIGH = 64 * 1024
"""asyncio's default high-water mark; the low one is a quarter."""


class Outgoing:
    def __init__(self, luck: random.Random, rules: Callable[[], FaultProfile]) -> None:
        self._luck = luck
        self._rules = rules
        self._pieces: deque[Piece] = deque()
        self.octets = 0
        self.high, self.low = HIGH, HIGH // 4
        self.paused = False
        """Whether the protocol has been told to pause."""

    def set_limits(self, high: int | None, low: int | None) -> None:
        """As asyncio's `set_write_buffer_limits`."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self.high, self.low = high, low

    def put(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self.octets += len(piece.octets)

    def clear(self) -> None:
        self._pieces.clear()
        self.octets = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def send(self, pipe: Pipe) -> None:
        """Move to the wire what its window has room for."""
        while self._pieces and (room := pipe.room):
            piece = self._pieces.popleft()
            if piece.kind is Kind.DATA:
                piece = self._cut(piece, room)
                self.octets -= len(piece.octets)
            pipe.send(piece)

    def _cut(self, piece: Piece, room: int) -> Piece:
        length = min(len(piece.octets), room)
        if chance(self._luck, self._rules().cut_probability):
            # Half of the cuts leave a few octets, which is where parsers break.
            length = self._luck.randint(1, self._luck.choice((length, min(length, 4))))
        if length < len(piece.octets):
            self._pieces.appendleft(Piece(Kind.DATA, piece.octets[length:], piece.tls))
        return Piece(Kind.DATA, piece.octets[:length], piece.tls)
