"""The nouns: account, device, message, and what is known of each.

Times are Unix times in seconds (`float`), always handed in by the caller's clock. Sizes are
octets of the message as it is sent, CRLF line ends included, dot-stuffing excluded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from proxy.domain.policy import ViewKind
from proxy.domain.timekeeping import EARLIEST

_UID = re.compile(r"[\x21-\x7e]{1,70}")
_DEVICE_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")

DEFAULT_DEVICE = "default"


def is_valid_uid(uid: str) -> bool:
    """1 to 70 characters in the range 0x21 to 0x7E (RFC 1939 §7)."""
    return _UID.fullmatch(uid) is not None


OWN_UID_PREFIX = "pop3-sync-proxy."
"""Of the UIDLs of messages that the proxy makes itself."""


def is_own_uid(uid: str) -> bool:
    """Whether this name is for messages of our own; upstream's are given another one then."""
    return uid.startswith(OWN_UID_PREFIX)


MINTED_DIGITS = 40
"""Hexadecimal digits of a minted uid: of the digest's 64, so that a suffix fits into 70."""


def minted_uids(digest: bytes, prefix: str = "") -> Iterator[str]:
    """Names for a message of this digest that has none of its own, the first to be tried first."""
    minted = prefix + digest.hex()[:MINTED_DIGITS]
    yield minted
    for number in count(2):
        yield f"{minted}-{number}"


def is_valid_device_name(name: str) -> bool:
    """1 to 32 of `A-Z a-z 0-9 . _ -`."""
    return _DEVICE_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is made with. The password is octets: it goes upstream as it came."""

    username: str
    password: bytes = field(repr=False)
    is_token: bool = False
    """The password is an OAuth 2.0 access token (RFC 6750)."""


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A message that is upstream and not in the store."""

    uid: str
    octets: int
    """As LIST says."""
    why: str


@dataclass(frozen=True, slots=True)
class Account:
    """One upstream mailbox as the store knows it; its policy comes from the configuration."""

    id: int
    name: str
    """In the spelling that came first; for an account that is not declared, the one that upstream
    has accepted, and what goes upstream."""
    declared: bool
    verifier: str | None = field(repr=False)
    """Argon2id string of a pass-through account's last accepted password."""
    created_at: float
    synced_at: float | None
    """When the last successful sync ended."""
    failed_at: float | None
    """When the last failed sync ended, if it is later than `synced_at`."""
    failure: str
    """Why that one failed; empty when there is none."""
    failure_kind: str
    """Name of the error's class."""
    upstream_count: int
    """Messages upstream held at the last successful sync."""
    keeps_retrieved: bool
    """Whether upstream has ever listed a message again after the session that fetched it. If not,
    RETR may hide or delete messages, as it does at some providers."""
    login_interval: float
    """Seconds to leave between two logins, as learnt from refusals; 0: nothing learnt."""
    unfetched: tuple[Unfetched, ...]
    """What upstream listed at the last successful sync and was not fetched; the first few."""
    salt_name: str = ""
    """What its SCRAM salt is made of; "": the canonical form of its name."""


@dataclass(frozen=True, slots=True)
class Device:
    id: int
    account_id: int
    name: str
    view: ViewKind | None
    """None: what the account's policy says."""
    since: float | None
    """Backlog that arrived at this time or earlier is not for this device; None: all mail is."""
    has_app_password: bool
    scram_keys: bytes | None = field(repr=False)
    """StoredKey and ServerKey of its app password, 32 octets each (RFC 5802 §3)."""
    certificate: bytes | None
    """SHA-256 of the certificate it may log in with."""
    created_at: float
    seen_at: float | None
    """Last login, to within `services.maildrops.SEEN_RESOLUTION` seconds on disk."""
    seen_ran: float = 0.0
    """The same in running time; before the first login, when it was made."""
    backlog_to: int = 0
    """Id of the last message that was there when it was made: its backlog are those up to it, and
    those that are dated. No clock hides from it what comes later."""

    def is_before_backlog(self, message_id: int, received_at: float, *, dated: bool) -> bool:
        """Whether such a message is hidden from it by `since`.

        One that is to see no backlog, and was made when nothing was known of the time but that it
        was no earlier, sees nothing that is dated until its `since` is put right.
        """
        if self.since is None or not (message_id <= self.backlog_to or dated):
            return False
        return received_at <= self.since or (dated and self.since == EARLIEST)


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message, as views show it."""

    id: int
    uid: str
    """The UIDL devices see: 1–70 characters of 0x21–0x7E, unique in the account for ever."""
    digest: bytes
    """SHA-256 of the blob, 32 octets."""
    octets: int
    dots: bool
    """Whether any line begins with a dot, so that RETR has to stuff."""


class Upstream(Enum):
    """Where the upstream copy of a message is, as far as the last listing told."""

    PRESENT = "present"
    GONE = "gone"
    """No longer listed, and not by our doing."""
    EXPUNGED = "expunged"
    """Deleted by us: DELE, and QUIT answered +OK."""


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """All that is known of one message, for an operator; of one that was purged, too."""

    id: int
    uid: str
    digest: bytes
    octets: int
    received_at: float
    """When it is taken to have arrived."""
    fetched_at: float
    upstream: Upstream
    left_upstream_at: float | None
    deleted_at: float | None
    """When a device deleted it for all of them."""
    purged_at: float | None
    blob_lost: bool
    own: bool
    """The proxy has made it itself; it never was upstream."""
    only_device: int | None
    """Id of the one device that it is for; None: for all."""
    dated: bool = False
    """`received_at` is what it says of itself, and not when it came."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one device did with one message."""

    device: str
    retrieved_at: float | None
    deleted_at: float | None


@dataclass(frozen=True, slots=True)
class AccountSize:
    messages: int
    """With a blob."""
    octets: int
    upstream_octets: int
    """Of those that upstream has, by the sizes that it lists."""


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """What the sync remembers of a message it has fetched once."""

    id: int
    upstream_uid: str
    """What upstream calls it; for an upstream without UIDL, "" ."""
    upstream_octets: int
    """The size LIST gave, which need not be true."""
    digest: bytes
    header_digest: bytes | None
    content_digest: bytes | None
    """Both as `Fingerprint` has them."""
    upstream: Upstream
    blob_kept: bool
    """False once the blob is purged, or found missing or damaged."""
    left_at_once: float | None = None
    """When it was gone together with so many that all of them may come back under other UIDLs, in
    running time."""
    deleting: bool = False
    """Our own DELE was about to be sent, and it is not known what came of it."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Octets received whole, not yet in the catalogue."""

    digest: bytes
    octets: int
    dots: bool
    number: int = field(default=0, compare=False)
    """Of the writer that has them, unique in the process."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A message that came down complete, ready to enter the catalogue with its blob."""

    upstream_uid: str
    upstream_octets: int
    blob: Blob
    header_digest: bytes | None
    content_digest: bytes | None
    received_at: float
    """When it is taken to have arrived; decides whether a new device's backlog includes it."""
    repairs: int | None = None
    """Id of the known message whose lost blob this replaces; its digest is the same."""
    dated: bool = False
    """`received_at` is what it says of itself, and not when it came."""
    sent_as: str = ""
    """Its Message-ID, where devices that have sent mail under that name are not to see it again."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A mail that was on its way to the SMTP server, and of which nobody knows what became."""

    id: int
    account: str
    device: str
    """"": none, or one that is gone."""
    message_id: str
    """"": it has none."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A known message found again under another upstream name, size or state."""

    message_id: int
    upstream_uid: str
    upstream_octets: int
    header_digest: bytes | None = None
    """Of the header that it has upstream now, if that is another one."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of UIDLs that a device's program had kept."""

    known: int
    """UIDLs of messages that are now marked, or were before."""
    waiting: int
    """UIDLs of which no message has come so far."""
    ambiguous: int
    """UIDLs that several messages have had; none of those is marked."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Who has one message: what retention decides on."""

    message_id: int
    digest: bytes
    fetched_ran: float
    """This and all times here are running time."""
    deleted_everywhere: bool
    waiting: int
    """Active devices that are to get it and have not."""
    having: int
    """Devices that retrieved or deleted it."""
    left_ran: float | None
    """When it left the upstream."""
    last_delivery_ran: float | None
