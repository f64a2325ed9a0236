"""The doors to the machine: network, clock, entropy, passwords.

The simulation hands in a seeded world; production hands in the adapters. Transports and protocols
are asyncio's own abstract classes, so that one session code runs on sockets and in simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

P = TypeVar("P", bound=asyncio.Protocol)

DeviceProtocol = Literal["pop3", "smtp"]
"""What is spoken with devices, by its ALPN name. IANA's registry has "pop3" (RFC 2595) and none for
SMTP; "smtp" is what Exim goes by."""


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How to verify an upstream: its name in the certificate, and an extra trust root."""

    server_name: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class DeviceTls:
    """A connection of a device after its TLS handshake."""

    transport: asyncio.Transport
    version: str
    """"TLSv1.3" and so on."""
    end_point: bytes | None
    """The channel binding tls-server-end-point (RFC 5929 §4)."""
    client_fingerprint: bytes | None
    """SHA-256 of the client's certificate, if it has shown one, which is then verified."""


class Listener(Protocol):
    """An open listening socket, or several under one address."""

    addresses: tuple[str, ...]
    """"host:port" as bound, the real port included, or "unix:PATH"."""

    async def close(self) -> None:
        """Stop accepting; sessions already accepted go on."""


class Network(Protocol):
    """Connections out and in. Every failure to connect is `UpstreamUnreachable`."""

    async def connect(
        self, host: str, port: int, factory: Callable[[], P], tls: UpstreamTls | None
    ) -> tuple[asyncio.Transport, P]:
        """Open a connection; with `tls`, return only after the handshake.

        Raises:
            UpstreamUnreachable: refused, no such host, or the certificate does not verify.
        """

    async def start_upstream_tls(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, tls: UpstreamTls
    ) -> asyncio.Transport:
        """Upgrade an upstream connection (RFC 2595 §4); the old transport is not used again."""

    def channel_binding(self, transport: asyncio.Transport) -> tuple[str, bytes] | None:
        """Name and data of the best channel binding (RFC 5929) that this TLS connection has."""

    async def listen(self, address: str, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Accept connections on "host:port" (port 0: any free one), "unix:PATH", or "systemd:NAME",
        the sockets that systemd has opened under that name.

        Raises:
            OSError: the address cannot be bound.
        """

    async def start_device_tls(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        received: bytes,
        speaks: DeviceProtocol,
    ) -> DeviceTls:
        """Upgrade an accepted connection with our certificate.

        `received` is what came from the device already and belongs to the handshake. A device that
        offers protocols by ALPN (RFC 7301) has to offer the one that is spoken here.

        Raises:
            OSError: the handshake failed.
        """

    async def host_name(self, address: str) -> str | None:
        """The reverse name of an IP address; None when there is none, or none in time."""

    @property
    def offers_tls(self) -> bool:
        """Whether there is a certificate, and so STLS."""


class Clock(Protocol):
    def now(self) -> float:
        """Unix time in seconds. Waiting is done with the event loop, not with this.

        It may be wrong, and jump: what cannot be undone goes by `Store.ran`.
        """

    def awake(self) -> float:
        """Seconds on a clock that nobody sets, in which the machine neither slept nor was off."""

    def elapsed(self) -> float:
        """Likewise, those in which it slept included, as far as the machine can tell."""


class Entropy(Protocol):
    def token(self, octets: int) -> bytes:
        """Unpredictable octets for secrets."""

    def uniform(self, low: float, high: float) -> float:
        """A number for jitter; need not be unpredictable."""


class Passwords(Protocol):
    """Slow hashing of passwords that people choose."""

    async def hash(self, password: bytes) -> str:
        """A verifier string that carries its own parameters and salt."""

    async def verify(self, verifier: str, password: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A client certificate with its key, in PEM."""

    private_key: str = field(repr=False)
    certificate: str
    authority: str
    """The certificate of the authority that has signed it."""
    fingerprint: bytes
    """SHA-256."""


class Issuer(Protocol):
    """Our own certificate authority."""

    def issue(self, login: str) -> IssuedCertificate:
        """A certificate for the device with this login name, ACCOUNT+DEVICE.

        Raises:
            StoreUnavailable: the authority cannot be made or read.
        """


class Vault(Protocol):
    """Encrypts what the store keeps of other people's secrets; the key is kept elsewhere."""

    def seal(self, purpose: str, secret: bytes) -> bytes:
        """Encrypt; what comes out opens for the same purpose alone.

        Raises:
            VaultLocked: there is no key, and none can be made.
        """

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """Raises:
        VaultLocked: there is no key, or it is another one.
        """


class Web(Protocol):
    """Requests to token servers, over verified TLS."""

    async def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        """Status and body of the answer to a form; redirects are not followed.

        Raises:
            UpstreamUnreachable: there is no answer, or it is too long.
        """


@dataclass(frozen=True, slots=True)
class World:
    network: Network
    clock: Clock
    entropy: Entropy
    passwords: Passwords
    issuer: Issuer
    vault: Vault
    web: Web
