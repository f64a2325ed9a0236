"""What can be observed. Frozen values, no prose; no octet of mail or password in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Ending = Literal[
    "quit",
    "eof",
    "timeout",
    "slow_reader",
    "error",
    "tls_error",
    "shutdown",
    "login_timeout",
    "login_octets",
    "bad_commands",
    "refused_logins",
    "http",
    "proxy_header",
    "too_many_connections",
    "too_many_from_address",
    "revoked",
    "changed",
    "max_session",
]
"""How a device session ended: by QUIT, by the device hanging up, by silence, by a device that does
not take what it asked for, by a fault on either side, by a broken handshake, by the proxy stopping;
by a peer that speaks HTTP; "revoked": what it logged in with is no longer accepted; "changed": the
device was reset, or the account's configuration is another; the others are limits that the peer ran
into."""

Refusal = Literal["credentials", "too_many_failures"]
Unasked = Literal["refused_lately", "too_many_upstream"]
"""Why a login was refused: it is not to be accepted; too many failed from that address; or upstream
has refused too many to be asked again."""

Outcome = Literal["accepted", "refused", "failed"]
"""What came of a mail that was handed in: upstream took it; somebody refused it for good; it may be
tried again."""

Command = Literal[
    "CAPA",
    "USER",
    "PASS",
    "AUTH",
    "STLS",
    "UTF8",
    "LANG",
    "QUIT",
    "STAT",
    "LIST",
    "UIDL",
    "RETR",
    "TOP",
    "DELE",
    "NOOP",
    "RSET",
    "other",
]
"""What devices ask; "other" is what nobody knows."""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A device has connected; who it is, is not known yet."""

    peer: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """One device session, from accept to close."""

    peer: str
    account: str
    """Empty when nobody logged in."""
    device: str
    tls: str
    """"TLSv1.3" and so on; "forwarded" for TLS that ended at a forwarder; "" for none."""
    ended: Ending
    retrieved: int
    deleted: int
    octets_in: int
    octets_out: int
    seconds: float
    commands: Mapping[str, int] = field(default_factory=dict, repr=False)
    """How often each `Command` came. Not shown, since a log is no place for it."""


@dataclass(frozen=True, slots=True)
class SmtpSessionEnded:
    """One session of a client that hands in mail, from accept to close."""

    peer: str
    account: str
    """Empty when nobody logged in."""
    device: str
    tls: str
    ended: Ending
    accepted: int
    octets_in: int
    octets_out: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SubmissionEnded:
    """A mail has come to its end, and the client is about to be told how: once its content was
    here, or before, when its sender was refused, or DATA, or nobody could be asked."""

    account: str
    device: str
    outcome: Outcome
    answer: str
    """Code and text."""
    recipients: int
    octets: int
    seconds: float
    """From the client's last octet to the answer."""


@dataclass(frozen=True, slots=True)
class SentCopyStored:
    account: str
    device: str
    """That has sent it."""


@dataclass(frozen=True, slots=True)
class SentCopyMissing:
    """Upstream has taken a mail of which the other devices get no copy."""

    account: str
    device: str
    reason: str
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    account: str
    device: str
    seconds: float
    """From the command that completed the login to its answer."""


@dataclass(frozen=True, slots=True)
class LoginPutOff:
    """Nobody could judge the login, or its maildrop could not be opened."""

    peer: str
    account: str
    """The login name as it was given."""
    kind: str
    """Name of the error's class."""
    reason: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    peer: str
    account: str
    """The login name as it was given."""
    refusal: Refusal
    reason: str


@dataclass(frozen=True, slots=True)
class LoginUnasked:
    """Refused without asking upstream. No sign of an attack by who is refused: it may be a program
    with an old password, or an owner whose tries others have used up."""

    peer: str
    account: str
    """The login name as it was given."""
    why: Unasked
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceRefused:
    """The account has proved itself, but not as a device that may come."""

    peer: str
    account: str
    """The login name as it was given."""
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceUsed:
    """A device has been let in to read."""

    peer: str
    account: str
    device: str
    named: bool
    """False: nothing named it, so it is the default one."""


@dataclass(frozen=True, slots=True)
class DeviceEnrolled:
    account: str
    device: str


@dataclass(frozen=True, slots=True)
class UpstreamLoggedIn:
    account: str
    seconds: float
    """From connecting on."""


@dataclass(frozen=True, slots=True)
class MessageFetched:
    """A message came whole, be it new or not."""

    account: str
    octets: int
    seconds: float
    """From when its answer was waited for."""


@dataclass(frozen=True, slots=True)
class SyncFinished:
    account: str
    listed: int
    fetched: int
    octets: int
    expunged: int
    left: int
    """Messages that had left the upstream since the last sync."""
    failed: int
    """Messages upstream listed that were not fetched."""
    seconds: float
    doubted: bool = False
    """Whether the listing lacks what was there, and is not believed."""


@dataclass(frozen=True, slots=True)
class SyncFailed:
    account: str
    kind: str
    """Name of the error's class."""
    reason: str
    retry_in: float
    """Seconds until the next attempt in the background."""


@dataclass(frozen=True, slots=True)
class MessageSkipped:
    """A message that upstream lists and that is not fetched for now."""

    account: str
    uid: str
    octets: int
    why: str


@dataclass(frozen=True, slots=True)
class UidlsChanged:
    """Known messages came under other UIDLs and were recognised: providers that move to other
    software change them all. Devices go on seeing the old ones."""

    account: str
    recognised: int
    fetched: int
    """Messages that had to be fetched in that sync, since no header decided."""


@dataclass(frozen=True, slots=True)
class ListingDoubted:
    """Most known mail is missing from a listing; nothing follows from it until that has lasted."""

    account: str
    known: int


@dataclass(frozen=True, slots=True)
class BlobDamaged:
    """A blob is missing or not what was stored; the message is fetched again."""

    account: str
    message_id: int


@dataclass(frozen=True, slots=True)
class MessagesSetAside:
    """The catalogue does not name them; see `interfaces.store.Orphans`."""

    messages: int


@dataclass(frozen=True, slots=True)
class Purged:
    account: str
    messages: int
    octets: int


@dataclass(frozen=True, slots=True)
class TroubleBegan:
    """A person has to know of something."""

    account: str
    """"": it is the machine's."""
    trouble: str
    """A `TroubleKind`."""
    noticed: bool
    """A message about it is in the maildrops of the account."""


@dataclass(frozen=True, slots=True)
class TroubleOver:
    account: str
    trouble: str
    since: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class AlertSent:
    """The SMTP server has taken a mail to the operator."""

    troubles: int
    """That it tells of; 0: it is a digest."""


@dataclass(frozen=True, slots=True)
class AlertFailed:
    reason: str
    retry_in: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class CertificateLoaded:
    """What devices see from now on."""

    names: str
    fingerprint: str
    """SHA-256 in hexadecimal with colons, as programs show it."""
    not_after: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class CertificateUnusable:
    """A changed certificate cannot be loaded; the old one stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unexpected:
    """An exception nobody planned for: a bug. `where` names the task it ended."""

    where: str
    error: BaseException


Fact = (
    SessionStarted
    | SessionEnded
    | SmtpSessionEnded
    | SubmissionEnded
    | SentCopyStored
    | SentCopyMissing
    | LoggedIn
    | LoginPutOff
    | LoginRefused
    | LoginUnasked
    | DeviceRefused
    | DeviceUsed
    | DeviceEnrolled
    | UpstreamLoggedIn
    | MessageFetched
    | SyncFinished
    | SyncFailed
    | MessageSkipped
    | UidlsChanged
    | ListingDoubted
    | BlobDamaged
    | MessagesSetAside
    | Purged
    | TroubleBegan
    | TroubleOver
    | AlertSent
    | AlertFailed
    | CertificateLoaded
    | CertificateUnusable
    | Unexpected
)
