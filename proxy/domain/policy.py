"""Every knob, typed, with its unit and the origin of its default.

These classes are the sections of the configuration file as well: `config` fills them, services
take them. Durations are `Seconds`, sizes are `Octets`; the file writes them as "5m" and "64KiB".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, NewType

Seconds = NewType("Seconds", float)
Octets = NewType("Octets", int)
MailAddress = NewType("MailAddress", str)
"""local@domain, in ASCII."""

Network = IPv4Network | IPv6Network

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

TlsMode = Literal["implicit", "starttls", "none"]
ViewKind = Literal["all", "undelivered"]
PlaintextLogin = Literal["never", "loopback", "always"]
UpstreamRetention = Literal["keep", "delivered", "age", "delivered-or-age"]
AuthMethod = Literal[
    "auto",
    "user",
    "apop",
    "plain",
    "login",
    "cram-md5",
    "scram-sha-1",
    "scram-sha-1-plus",
    "scram-sha-256",
    "scram-sha-256-plus",
    "oauthbearer",
    "xoauth2",
]
SmtpAuth = Literal[
    "auto",
    "plain",
    "login",
    "cram-md5",
    "scram-sha-1",
    "scram-sha-256",
    "oauthbearer",
    "xoauth2",
    "external",
    "none",
]
SentCopies = Literal["others", "all", "off"]
ReturnedCopies = Literal["show", "hide"]
IdentifyBy = Literal["login", "app-password", "address", "reverse-name"]


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """The POP3 server that holds the real mailbox."""

    host: str = ""
    port: int = 995
    tls: TlsMode = "implicit"
    ca_file: str = ""
    """PEM file with trust roots beside the system's; empty: the system's alone."""
    provider: str = ""
    """Name of the preset that the defaults of the other keys come from."""
    auth: AuthMethod = "auto"
    """"auto" takes the strongest that is offered and that the credentials allow; APOP never."""
    plaintext_login: PlaintextLogin = "loopback"
    """To where a password may go in clear text without TLS."""
    login_interval: Seconds = Seconds(0)
    """Least time between two logins, beside what upstream announces and what its refusals teach."""
    oauth_client_id: str = ""
    """Given: declared accounts log in with OAuth 2.0 tokens."""
    oauth_client_secret: str = field(default="", repr=False)
    """Not a secret, for programs that people install (RFC 8252 §8.5); some providers want one."""
    oauth_authorization_url: str = ""
    oauth_token_url: str = ""
    oauth_device_url: str = ""
    """"": the provider has no device flow (RFC 8628) for mail."""
    oauth_scope: str = ""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """The server that takes an account's outgoing mail, and what becomes of copies."""

    host: str = ""
    """"": the account's mail cannot be sent."""
    port: int = 465
    tls: TlsMode = "implicit"
    ca_file: str = ""
    auth: SmtpAuth = "auto"
    """"none": the server knows us by something else, such as the address."""
    username: str = ""
    """Of declared accounts; "": as for POP3."""
    client_certificate: str = ""
    client_key: str = ""
    """"": it is in the certificate's file."""
    plaintext_login: PlaintextLogin = "loopback"
    """To where a password may go in clear text without TLS."""
    sent_copies: SentCopies = "others"
    """Whose maildrops show what a device has sent."""
    keep_bcc: bool = True
    """Whether copies tell the blind recipients."""
    returned_copies: ReturnedCopies = "show"
    """Whether devices that have a mail by sending it see it again when it comes back."""


@dataclass(frozen=True, slots=True)
class SubmissionLimits:
    """What a client may hand in."""

    max_message_size: Octets = Octets(50 * 1024**2)
    """Most providers take 20 to 50 MB."""
    max_recipients: int = 100
    """Of one mail; RFC 5321 §4.5.3.1.8 wants a hundred or more."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What holds for every device session."""

    plaintext_login: PlaintextLogin = "loopback"
    """From where logins without TLS are allowed."""
    autologout: Seconds = Seconds(10 * MINUTE)
    """Silence after which a session is dropped; RFC 1939 §3 sets ten minutes as the least."""
    drain: Seconds = Seconds(60)
    """How long sessions may go on once the proxy stops; who is silent by then is not waited for."""
    proxy_protocol_from: tuple[Network, ...] = ()
    """Whose connections begin with a PROXY protocol header, and whose header is believed."""


@dataclass(frozen=True, slots=True)
class LimitsPolicy:
    """What a stranger may take up."""

    max_connections: int = 1000
    """At once. When they are all taken, the oldest that has not logged in makes room."""
    max_connections_per_address: int = 100
    """At once from one address; an IPv6 network of 64 bits counts as one. Dovecot allows ten for
    each user, and a whole office may stand behind one address."""
    login_timeout: Seconds = Seconds(3 * MINUTE)
    """From the connection to the login; Dovecot's."""
    login_octets: Octets = Octets(64 * 1024)
    """That a client may send before it has logged in."""
    max_session: Seconds = Seconds(DAY)
    """How long a session may last, whatever it does: mail that it may show is not let go of, and no
    mail program needs a day for a poll."""
    max_bad_commands: int = 20
    """In one session; Dovecot's."""
    max_line: Octets = Octets(1024)
    """Octets of a command. RFC 2449 §4 wants 255 or more; names and passwords are longer at
    times."""
    login_delay: Seconds = Seconds(2)
    """How long a failed login is answered after it came, at the least; Dovecot's. Doubles with
    every further failure from an address."""
    max_login_delay: Seconds = Seconds(60)
    upstream_refusals: int = 5
    """Wrong passwords of one account that upstream sees in a quarter of an hour; providers lock
    accounts after some ten."""
    upstream_refusals_per_host: int = 20
    """The same for all accounts of one upstream host."""
    max_devices: int = 50
    """Of one account; each holds mail back, and has its own deliveries of every message."""
    max_new_accounts: int = 100
    """Pass-through accounts that one place may make in an hour: an office may move in in one."""


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
    max_message_size: Octets = Octets(1024**3)
    """Larger messages are left upstream; no provider takes a tenth of it."""


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """How much of the disk mail may take. 0: nothing is set."""

    reserve: Octets = Octets(0)
    """Kept free on the file system; `domain.room` says what 0 comes to."""
    max_account_size: Octets = Octets(0)
    """Of the messages stored of one account, beyond which nothing more is fetched for it."""


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    enrol: Literal["auto", "closed"] = "auto"
    separator: str = "+"
    view: ViewKind = "all"
    backlog: str = "all"
    """"all", "none" or an age such as "30d"; `backlog_age` reads it."""
    identify_by: tuple[IdentifyBy, ...] = ("login", "app-password")
    """What names the device; the first that gives a name decides."""
    unnamed: Literal["allow", "refuse"] = "allow"
    """What becomes of a login that nothing gives the name of a device."""


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
class AlertsPolicy:
    """How people hear of troubles."""

    notices: bool = True
    """Whether messages about them appear in the maildrops of the accounts concerned."""
    to: tuple[MailAddress, ...] = ()
    """Who gets them by e-mail; nobody: there is none."""
    sender: str = ""
    """"": the first of `to`."""
    host: str = ""
    """The SMTP server that takes them."""
    port: int = 465
    tls: TlsMode = "implicit"
    ca_file: str = ""
    username: str = ""
    """"": no login."""
    password: str = field(default="", repr=False)
    password_file: str = ""
    """Read at every login; comes before `password`."""
    max_per_hour: int = 10
    """Mails; what is beyond waits, and is told in one."""
    digest: Literal["off", "daily", "weekly"] = "off"

    @property
    def envelope_sender(self) -> str:
        return self.sender or (self.to[0] if self.to else "")


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """Everything that is decided per account: the file's defaults with its overrides."""

    upstream: UpstreamServer = field(default_factory=UpstreamServer)
    sync: SyncPolicy = field(default_factory=SyncPolicy)
    devices: DevicePolicy = field(default_factory=DevicePolicy)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    smtp: SmtpServer = field(default_factory=SmtpServer)


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
