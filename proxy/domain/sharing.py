"""Whether two mail programs use one device, by when it logs in and from where.

A laptop is carried from place to place, an address changes by itself, and a machine with IPv4 and
IPv6 has two: none of that is two programs. What one program cannot do is go on at a place after it
has logged in at another one, and it does not go to and fro all day.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from ipaddress import IPv4Address, ip_network

from proxy.domain.peers import neighbourhood, parse_address
from proxy.domain.policy import DAY, HOUR

SWIFT = HOUR
"""Seconds in which a return to a place counts: there, elsewhere, there again."""
RETURNS = 6
"""In `WINDOW`; the walks of a phone out of its wireless network and back are fewer."""
WINDOW = DAY

PLACES = 8
"""Remembered of a device."""

CALM = 7 * DAY
"""Seconds without any sign after which it is over."""

Place = tuple[str, str]
"""Family of addresses, and network."""


def place_of(peer: str) -> Place:
    """What counts as one place: the /24 that a provider's pool of public IPv4 addresses has at the
    least, a single address of a private network, the /64 of a household's IPv6."""
    address = parse_address(peer)
    if address is None:
        return "", peer
    if isinstance(address, IPv4Address) and address.is_global:
        return "4", str(ip_network((address, 24), strict=False))
    return str(address.version), neighbourhood(peer)


class DeviceUse:
    """Of one device. Times are Unix times."""

    def __init__(self) -> None:
        self._logins: OrderedDict[Place, float] = OrderedDict()
        """The last one from each place, the latest place at the end."""
        self._returns: deque[float] = deque(maxlen=RETURNS)
        self.shared_at: float | None = None
        """When it last did what one program does not do."""
        self.unnamed_at: float | None = None
        """When it last logged in without a word of its name."""

    def logged_in(self, peer: str, now: float, *, named: bool = True) -> None:
        place = place_of(peer)
        last = next((other for other in reversed(self._logins) if other[0] == place[0]), place)
        if last != place and 0 <= now - self._logins.get(place, now - 2 * SWIFT) <= SWIFT:
            self._returns.append(now)
            if len(self._returns) == RETURNS and 0 <= now - self._returns[0] <= WINDOW:
                self.shared_at = now
        self._logins[place] = now
        self._logins.move_to_end(place)
        if len(self._logins) > PLACES:
            self._logins.popitem(last=False)
        if not named:
            self.unnamed_at = now

    def quit(self, peer: str, began: float, now: float) -> None:
        """A session from there that began then has been ended by QUIT.

        A program that was cut off when its machine went elsewhere sends none.
        """
        here = place_of(peer)
        if any(
            place != here and place[0] == here[0] and began < at < now
            for place, at in self._logins.items()
        ):
            self.shared_at = now
