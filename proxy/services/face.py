"""What device sessions stand on: the door they log in at, the maildrop it opens, their peer."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Protocol

from proxy.domain.model import Message
from proxy.domain.policy import PlaintextLogin, SessionPolicy
from proxy.domain.view import View
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import BlobReader
from proxy.interfaces.world import Network


class Maildrop(Protocol):
    """What one session works on."""

    account: str
    device: str
    view: View

    def open(self, message: Message) -> BlobReader:
        """Raises:
        StoreUnavailable: the octets are not to be had now.
        """

    async def commit(self) -> None:
        """Make the view's marks durable (RFC 1939 §6).

        Raises:
            StoreUnavailable: nothing was committed.
        """

    def close(self) -> None:
        """The session is over. Called once."""


class Door(Protocol):
    async def login(self, username: str, password: bytes, peer: str) -> Maildrop:
        """Raises:
        ProxyError: `replies` knows what to say.
        """


@dataclass(frozen=True, slots=True)
class Face:
    """What all sessions share."""

    door: Door
    network: Network
    observer: Observer
    policy: SessionPolicy
    implementation: str


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address of a socket's other end; "local" for a Unix socket, which has none."""
    peername = transport.get_extra_info("peername")
    if isinstance(peername, tuple):
        return str(peername[0])
    return "local" if isinstance(peername, str) else "unknown"


def plaintext_allowed(policy: PlaintextLogin, peer: str) -> bool:
    """Whether a peer at this address may log in without TLS."""
    if policy == "loopback":
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return peer == "local"
        # A socket that takes both families shows an IPv4 peer as ::ffff:127.0.0.1.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback
    return policy == "always"
