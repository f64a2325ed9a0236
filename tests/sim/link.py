"""One simulated connection: two ends, a pipe each way, and the faults that strike both."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.faults import FaultProfile
from tests.sim.pipe import Kind, Piece, Pipe
from tests.sim.surface import Address
from tests.sim.transport import SimTransport

if TYPE_CHECKING:
    from tests.sim.fabric import SimFabric


@dataclass(frozen=True, slots=True)
class Sent:
    """Octets as they reached the far end's kernel, for a `tap`."""

    link: int
    source: str
    target: str
    octets: bytes
    tls: bool


class Link:
    def __init__(
        self,
        fabric: SimFabric,
        number: int,
        hosts: tuple[str, str],
        addresses: tuple[Address, Address],
        contexts: tuple[Context, Context],
    ) -> None:
        """The client's side comes first in every pair."""
        self.number = number
        self.hosts = hosts
        self._fabric = fabric
        self._left = [False, False]
        client = self._end(0, contexts[0], addresses)
        server = self._end(1, contexts[1], (addresses[1], addresses[0]))
        self.ends = (client, server)
        self.pipes = (self._pipe(1), self._pipe(0))
        client.join(self.pipes[0], self.pipes[1], server)
        server.join(self.pipes[1], self.pipes[0], client)

    def rules(self) -> FaultProfile:
        return self._fabric.rules(*self.hosts)

    def open_ends(self, host: str) -> list[SimTransport]:
        sides = zip(self.hosts, self._left, self.ends, strict=True)
        return [end for name, left, end in sides if name == host and not left]

    def reset(self) -> None:
        """Tell both ends so, whatever is under way."""
        self._note("reset")
        for pipe in self.pipes:
            pipe.drop()
        for end in self.ends:
            end.receive(Piece(Kind.RESET))

    def swallow(self) -> None:
        """From now on everything vanishes."""
        self._note("gone dark")
        for pipe in self.pipes:
            pipe.dark = True

    def _end(self, side: int, context: Context, addresses: tuple[Address, Address]) -> SimTransport:
        return SimTransport(
            luck=self._fabric.luck,
            rules=self.rules,
            context=context,
            addresses=addresses,
            gone=self._leaver(side),
        )

    def _leaver(self, side: int) -> Callable[[], None]:
        def leave() -> None:
            self._note(f"end of {self.hosts[side]}")
            self._left[side] = True
            if all(self._left):
                self._fabric.forget(self)

        return leave

    def _pipe(self, target: int) -> Pipe:
        def deliver(piece: Piece) -> None:
            source = self.hosts[1 - target]
            self._note(f"{piece.kind.value} {len(piece.octets)} from {source}")
            if self._fabric.tap is not None and piece.octets:
                sent = Sent(self.number, source, self.hosts[target], piece.octets, piece.tls)
                self._fabric.tap(sent)
            self.ends[target].receive(piece)

        return Pipe(
            luck=self._fabric.luck,
            rules=self.rules,
            deliver=deliver,
            broken=self.reset,
            swallowed=self.swallow,
        )

    def _note(self, what: str) -> None:
        self._fabric.note(f"link {self.number}: {what}")
