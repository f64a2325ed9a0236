"""What the simulated hosts share: names, services, connections, and the faults between them."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import count

from tests.sim.faults import FaultProfile
from tests.sim.link import Link, Sent
from tests.sim.loop import SimLoop
from tests.sim.transport import SimTransport

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FIRST_FREE_PORT = 40_000


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A listening socket."""

    host: str
    port: int
    factory: Callable[[], asyncio.Protocol]
    context: Context
    tls: bool


class SimFabric:
    def __init__(self, loop: SimLoop, seed: object, profile: FaultProfile | None = None) -> None:
        self.loop = loop
        self.luck = random.Random(f"{seed}/network")
        self.default = profile or FaultProfile()
        """The profile of connections for which none was set by `faults`. May be replaced."""
        self.tap: Callable[[Sent], None] | None = None
        """Sees every piece of data that arrives anywhere; a reset may still destroy it."""
        self.certificates: dict[str, set[str]] = {}
        """Host → the names its certificate is valid for."""
        self._profiles: dict[str, FaultProfile] = {}
        self._addresses: dict[str, str] = {}
        self._lives: dict[str, int] = {}
        self._services: dict[tuple[str, int], Service] = {}
        self._links: dict[int, Link] = {}
        self._holes: set[str] = set()
        # What a killed process held must not be collected, or its generators would be closed.
        self._kept: list[object] = []
        self._link_numbers = count(1)
        self._ports = count(FIRST_FREE_PORT)

    def note(self, what: str) -> None:
        self.loop.trace.note(self.loop.time(), what)

    # --- hosts ----------------------------------------------------------------------------------

    def add_host(self, name: str) -> None:
        if name not in self._addresses:
            self._addresses[name] = f"10.0.0.{len(self._addresses) + 1}"
            self.certificates[name] = {name}

    def resolve(self, name: str, *, asking: str) -> str | None:
        """The host with this name or address."""
        if name in LOOPBACK:
            return asking
        for host, address in self._addresses.items():
            if name in (host, address):
                return host
        return None

    def life_of(self, host: str) -> int:
        """How many times the host has crashed."""
        return self._lives.get(host, 0)

    def crash(self, host: str) -> None:
        """Kill what the host has open: no protocol of it hears of that, its peers are reset."""
        self.note(f"crash of {host}")
        self._lives[host] = self.life_of(host) + 1
        for key in [key for key in self._services if key[0] == host]:
            self._kept.append(self._services.pop(key))
        for link in self._links_of(host):
            self._kept.append(link)
            for end in link.open_ends(host):
                end.vanish()

    # --- faults ---------------------------------------------------------------------------------

    def faults(self, host: str, profile: FaultProfile | None) -> None:
        """Set or remove a host's own profile; holds at once, for open connections too."""
        if profile is None:
            self._profiles.pop(host, None)
        else:
            self._profiles[host] = profile

    def rules(self, client: str, server: str) -> FaultProfile:
        return self._profiles.get(client) or self._profiles.get(server) or self.default

    def quiet(self) -> None:
        """No new faults from now on. Stalls end by themselves; connections gone dark stay dark."""
        self.default = self.default.without_faults()
        self._profiles = {h: p.without_faults() for h, p in self._profiles.items()}
        self._holes.clear()

    def reset(self, host: str) -> None:
        """Reset every connection of this host, at both ends."""
        for link in self._links_of(host):
            link.reset()

    def black_hole(self, host: str) -> None:
        """Swallow all its connections for ever, and new ones until `restore`."""
        self._holes.add(host)
        for link in self._links_of(host):
            link.swallow()

    def restore(self, host: str) -> None:
        """Let new connections through again."""
        self._holes.discard(host)

    def is_reachable(self, client: str, server: str) -> bool:
        return not self._holes & {client, server}

    def stall(self, host: str, seconds: float) -> None:
        """Deliver nothing on the open connections of this host for so long."""
        for link in self._links_of(host):
            for pipe in link.pipes:
                pipe.hold(seconds)

    # --- services and connections ---------------------------------------------------------------

    def offer(
        self,
        host: str,
        port: int,
        factory: Callable[[], asyncio.Protocol],
        context: Context,
        *,
        tls: bool,
    ) -> Service:
        """Raises:
        OSError: the port is taken.
        """
        port = port or next(self._ports)
        if (host, port) in self._services:
            raise OSError(errno.EADDRINUSE, "address already in use")
        service = Service(host, port, factory, context, tls)
        self._services[host, port] = service
        return service

    def withdraw(self, service: Service) -> None:
        if self._services.get((service.host, service.port)) is service:
            del self._services[service.host, service.port]

    def service(self, host: str, port: int) -> Service | None:
        return self._services.get((host, port))

    def open_connections(self, host: str) -> int:
        """Ends at this host that are not gone: after a test, what was leaked."""
        return sum(len(link.open_ends(host)) for link in self._links.values())

    def open(self, client: str, service: Service, context: Context) -> Link:
        """Open a connection and have the service accept it; the client's end is not started."""
        local = client == service.host
        here = ("127.0.0.1" if local else self._addresses[client], next(self._ports))
        there = ("127.0.0.1" if local else self._addresses[service.host], service.port)
        number = next(self._link_numbers)
        accepting = service.context.copy()
        link = Link(self, number, (client, service.host), (here, there), (context, accepting))
        self._links[number] = link
        self.note(f"link {number}: {client} to {service.host}:{service.port}")
        accept = partial(_accept, service, link.ends[1])
        self.loop.call_soon(accept, context=service.context.copy())
        return link

    def link_of(self, end: SimTransport) -> Link | None:
        """The connection of this end; None once both ends are gone."""
        return next((link for link in self._links.values() if end in link.ends), None)

    def forget(self, link: Link) -> None:
        self._links.pop(link.number, None)

    def _links_of(self, host: str) -> list[Link]:
        return [link for link in self._links.values() if host in link.hosts]


def _accept(service: Service, end: SimTransport) -> None:
    protocol = service.factory()
    if not service.tls:
        end.start(protocol)
        return

    def shaken(done: asyncio.Future[None]) -> None:
        if done.exception() is None:
            end.start(protocol)

    end.start_tls(server=True).add_done_callback(shaken, context=service.context.copy())
