"""What device sessions stand on: the door they log in at, the maildrop it opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.domain.model import Account, Device, Message
from proxy.domain.peers import LOCAL, is_loopback, parse_address
from proxy.domain.policy import LimitsPolicy, PlaintextLogin, SessionPolicy
from proxy.domain.view import View
from proxy.interfaces.link import Link
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import BlobReader
from proxy.interfaces.world import Network
from proxy.services.rights import Claim, Rights
from proxy.wire.pop3 import Expire
from proxy.wire.scram import ScramKeys


class Maildrop(Protocol):
    """What one session works on."""

    account: str
    device: str
    view: View
    expire: Expire

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


@dataclass(frozen=True, slots=True)
class PasswordProof:
    username: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateProof:
    username: str
    """The login name asked for; "" leaves it to the certificate."""
    fingerprint: bytes
    """SHA-256 of the client certificate, which TLS has verified."""


@dataclass(frozen=True, slots=True)
class ScramChallenge:
    """What a SCRAM exchange of this user is made with."""

    username: str
    nonce: str
    salt: bytes
    iterations: int
    candidates: tuple[ScramKeys, ...]
    devices: tuple[str | None, ...]
    """Whose app password each candidate is; None: it is the account's own password."""


@dataclass(frozen=True, slots=True)
class ScramProof:
    challenge: ScramChallenge
    candidate: int | None
    """Which of the candidates the client knows; None: none."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who hands in mail."""

    account: Account
    device: Device | None
    """None: one that has never fetched mail, and whose name was not given."""
    device_name: str
    password: bytes | None = field(repr=False)
    """Of an account that is not declared: what upstream takes; None: not known, since something
    else was the proof."""


Proof = PasswordProof | CertificateProof | ScramProof


class Door(Protocol):
    @property
    def expire(self) -> Expire:
        """What is said before it is known who logs in."""

    @property
    def announces_scram(self) -> bool:
        """Whether every password that may come can be checked by SCRAM."""

    async def login(self, proof: Proof, peer: str, claim: Claim) -> Maildrop:
        """`claim` is told what was proved as soon as that is clear.

        Raises:
            ProxyError: `replies` knows what to say.
        """

    async def scram(self, username: str, peer: str) -> ScramChallenge:
        """The same for everybody, known or not (RFC 5802 §9).

        Raises:
            ProxyError: as `login`.
        """


class SendersDoor(Protocol):
    async def sender(self, proof: Proof, peer: str, claim: Claim) -> Sender:
        """Raises:
        ProxyError: as `Door.login`.
        """


@dataclass(frozen=True, slots=True)
class Face:
    """What all sessions share."""

    door: Door
    network: Network
    observer: Observer
    policy: SessionPolicy
    limits: LimitsPolicy
    implementation: str
    new_id: Callable[[], str] = str
    """Names sessions in logs; as it stands, all are nameless."""
    rights: Rights = field(default_factory=Rights)


def peer_of(link: Link) -> str:
    """The address of a socket's other end; "local" for a Unix socket, which has none."""
    peername = link.get_extra_info("peername")
    if isinstance(peername, tuple):
        return str(peername[0])
    return LOCAL if isinstance(peername, str) else "unknown"


def plaintext_allowed(policy: PlaintextLogin, peer: str) -> bool:
    """Whether a peer at this address may log in without TLS."""
    return policy == "always" or (policy == "loopback" and is_loopback(peer))


def is_forwarder(policy: SessionPolicy, peer: str) -> bool:
    """Whether connections from here must begin with a PROXY protocol header."""
    address = parse_address(peer)
    return address is not None and any(address in network for network in policy.proxy_protocol_from)
