"""All open device sessions, and whether one more may be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from proxy.domain.peers import LOCAL, neighbourhood
from proxy.domain.policy import LimitsPolicy


class Session(Protocol):
    def drain(self) -> None:
        """The proxy stops: bring what is under way to an end."""

    def make_room(self) -> None:
        """Hang up: somebody else is in more need of the connection."""

    def shut_down(self) -> None:
        """Hang up: the proxy stops."""

    async def wait_closed(self) -> None: ...


S = TypeVar("S", bound=Session)


class Sessions(Generic[S]):
    """Strangers are told from those who have proved who they are.

    A flood of connections cannot lock anybody out: when all are taken, the stranger that has been
    there for longest makes room, and who logs in at once is no stranger for long, however long the
    rest of the login takes.
    """

    def __init__(self, limits: LimitsPolicy) -> None:
        self.limits = limits
        """Those who are in already stay when it shrinks."""
        self._all: dict[S, str] = {}
        """Each with the neighbourhood it counts for; "" while that is not known."""
        self._strangers: dict[S, None] = {}
        """The oldest first."""
        self._places: Counter[str] = Counter()

    def __iter__(self) -> Iterator[S]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    def enter(self, session: S) -> bool:
        """False: there is no room, and the session is not counted."""
        if len(self._all) >= self.limits.max_connections:
            oldest = next(iter(self._strangers), None)
            if oldest is None:
                return False
            oldest.make_room()
            self.leave(oldest)
        self._all[session] = ""
        self._strangers[session] = None
        return True

    def settle(self, session: S, peer: str) -> bool:
        """The session's peer is known. False: there are too many from there."""
        if peer == LOCAL:
            return True
        place = neighbourhood(peer)
        if self._places[place] >= self.limits.max_connections_per_address:
            return False
        self._places[place] += 1
        self._all[session] = place
        return True

    def proved(self, session: S) -> None:
        self._strangers.pop(session, None)

    def turned_away(self, session: S) -> None:
        """A stranger again: the login was refused all the same. Harmless when it has left."""
        if session in self._all:
            self._strangers.setdefault(session)

    def leave(self, session: S) -> None:
        """Harmless when the session has left before."""
        place = self._all.pop(session, "")
        self._strangers.pop(session, None)
        if place:
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]
