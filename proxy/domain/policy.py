"""Every knob, typed, with its unit and the origin of its default.

These classes are the sections of the configuration file as well: `config` fills them, services
take them. Durations are `Seconds`, sizes are `Octets`; the file writes them as "5m" and "64KiB".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NewType

Seconds = NewType("Seconds", float)
Octets = NewType("Octets", int)

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

TlsMode = Literal["implicit", "starttls", "none"]
ViewKind = Literal["all", "undelivered"]
PlaintextLogin = Literal["never", "loopback", "always"]
UpstreamRetention = Literal["keep", "delivered", "age", "delivered-or-age"]


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """The POP3 server that holds the real mailbox."""

    host: str = ""
    port: int = 995
    tls: TlsMode = "implicit"
    ca_file: str = ""
    """PEM file with trust roots beside the system's; empty: the system's alone."""
    auth: Literal["auto", "user", "plain"] = "auto"
    """"auto" takes AUTH PLAIN where it is offered, else USER and PASS."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What holds for every device session."""

    plaintext_login: PlaintextLogin = "loopback"
    """From where logins without TLS are allowed."""
    autologout: Seconds = Seconds(10 * MINUTE)
    """Silence after which a session is dropped; RFC 1939 §3 sets ten minutes as the least."""


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    interval: Seconds = Seconds(5 * MINUTE)
    """Between background syncs; what most mail programs use for their own polling."""
    max_age: Seconds = Seconds(60)
    """A login asks for a sync when the last one is older than this."""
    login_wait: Seconds = Seconds(10)
    """How long a login waits for that sync; mail programs give up after 20 to 60 seconds."""
    max_sessions_per_host: int = 4
    """Providers cut off clients with many parallel sessions."""


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    enrol: Literal["auto", "closed"] = "auto"
    separator: str = "+"
    view: ViewKind = "all"
    backlog: str = "all"
    """"all", "none" or an age such as "30d"; `backlog_age` reads it."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    upstream: UpstreamRetention = "keep"
    upstream_age: Seconds = Seconds(30 * DAY)
    on_delete: Literal["device", "everywhere"] = "device"
    device_expiry: Seconds = Seconds(90 * DAY)
    """A device not seen for so long no longer holds mail back."""
    local_keep: Seconds = Seconds(30 * DAY)
    follow_upstream_removals: bool = False


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """Everything that is decided per account: the file's defaults with its overrides."""

    upstream: UpstreamServer = field(default_factory=UpstreamServer)
    sync: SyncPolicy = field(default_factory=SyncPolicy)
    devices: DevicePolicy = field(default_factory=DevicePolicy)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)


_UNITS = {"s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}


def parse_duration(text: str) -> Seconds:
    """Read "30s", "5m", "2h" or "30d".

    Raises:
        ValueError: the text is not of that form.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit():
        raise ValueError('not a time such as "30s", "5m", "2h" or "30d"')
    return Seconds(int(number) * _UNITS[unit])


def backlog_age(backlog: str) -> float | None:
    """How old mail may be that a new device still gets, in seconds; None means any age.

    Raises:
        ValueError: neither "all", nor "none", nor an age.
    """
    if backlog == "all":
        return None
    if backlog == "none":
        return 0.0
    try:
        return parse_duration(backlog)
    except ValueError:
        raise ValueError('not "all", "none" or an age such as "30d"') from None
