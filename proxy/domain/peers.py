"""Network addresses as text: which are one peer, and what device an address names.

A peer without an address (a Unix socket) is "local".
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from proxy.domain.model import is_valid_device_name

LOCAL = "local"

CACHED = 4096
"""Addresses remembered: a session asks about its own some five times."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=CACHED)
def parse_address(text: str) -> IPAddress | None:
    """An IP address; one that is IPv4 in IPv6's clothes (::ffff:192.0.2.1) is given as IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=CACHED)
def neighbourhood(peer: str) -> str:
    """What limits count as one peer: an IPv4 address, or the /64 that one household gets."""
    address = parse_address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return _network(address, 64)
    return str(address) if address else peer


@lru_cache(maxsize=CACHED)
def wider_networks(peer: str) -> tuple[str, ...]:
    """Who may have many neighbourhoods: the /56 and the /48 that providers give to one customer.
    Nothing of IPv4, where a neighbour is somebody else."""
    address = parse_address(peer)
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    return tuple(_network(address, length) for length in (56, 48))


@lru_cache(maxsize=CACHED)
def region(peer: str) -> str:
    """The /48 or the IPv4 /24 of an address, within which one may move about cheaply."""
    address = parse_address(peer)
    if address is None:
        return peer
    return _network(address, 48 if isinstance(address, ipaddress.IPv6Address) else 24)


def _network(address: IPAddress, length: int) -> str:
    return str(ipaddress.ip_network((address, length), strict=False))


def is_loopback(peer: str) -> bool:
    address = parse_address(peer)
    return address.is_loopback if address else peer == LOCAL


def device_of_address(peer: str) -> str | None:
    """The device name an address stands for: 192.168.1.20 as it is, IPv6 as 32 hex digits."""
    address = parse_address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return address.packed.hex()
    return str(address) if address else None


def device_of_host(host: str) -> str | None:
    """The device name a host name stands for: as it is, or its first label if that is too long."""
    host = host.rstrip(".").lower()
    for name in (host, host.partition(".")[0]):
        if is_valid_device_name(name):
            return name
    return None
