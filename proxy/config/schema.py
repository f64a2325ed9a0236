"""The whole configuration file, typed: one class per table, one field per key.

The tables that services take as they are (`upstream`, `sync`, `devices`, `retention`) are the
classes of `domain.policy`. The defaults stand here and there, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, NewType

from proxy.domain.directory import DeclaredAccount
from proxy.domain.policy import (
    AccountPolicy,
    AlertsPolicy,
    DevicePolicy,
    LimitsPolicy,
    Octets,
    RetentionPolicy,
    SessionPolicy,
    SmtpServer,
    StorePolicy,
    SubmissionLimits,
    SyncPolicy,
    UpstreamServer,
)

Level = Literal["debug", "info", "warning", "error"]
PartLevel = Literal["", "debug", "info", "warning", "error"]

Address = NewType("Address", str)
""""host:port"; an IPv6 host stands in brackets."""

Listening = NewType("Listening", str)
"""An address to listen on: "host:port", "unix:PATH" or "systemd:NAME"."""

HostName = NewType("HostName", str)
"""Without a port."""

FilePath = NewType("FilePath", str)
"""An absolute path once loaded; "" means there is none."""

Pattern = NewType("Pattern", str)
"""The name of an account, or "*@DOMAIN"; see `domain.allowed`."""


@dataclass(frozen=True, slots=True)
class Pop3Settings(SessionPolicy):
    """The face that devices talk to."""

    listen: tuple[Listening, ...] = (Listening("127.0.0.1:1110"),)
    listen_tls: tuple[Listening, ...] = ()
    certificate: FilePath = FilePath("")
    """PEM, with the chain; "" with `listen_tls` given: one is made in the data directory."""
    certificate_names: tuple[str, ...] = ()
    """What the one that is made is for, beside the machine's own names."""
    client_certificates: bool = False
    """Whether devices are asked for certificates, which `device certificate` makes."""
    private_key: FilePath = FilePath("")
    """PEM; "": the key is in the certificate file."""


_LIMITS = SubmissionLimits()


@dataclass(frozen=True, slots=True)
class SmtpSettings(SmtpServer):
    """The face that mail is handed in at, and the server that takes it by default."""

    listen: tuple[Listening, ...] = ()
    listen_tls: tuple[Listening, ...] = ()
    max_message_size: Octets = _LIMITS.max_message_size
    max_recipients: int = _LIMITS.max_recipients

    @property
    def limits(self) -> SubmissionLimits:
        return SubmissionLimits(self.max_message_size, self.max_recipients)

    @property
    def server(self) -> SmtpServer:
        return SmtpServer(**{key.name: getattr(self, key.name) for key in fields(SmtpServer)})


@dataclass(frozen=True, slots=True)
class AccountsSettings:
    pass_through: bool = True
    """Whether unknown logins are tried upstream; false once loaded if there is no upstream."""
    allow: tuple[Pattern, ...] = ()
    """Who may come beside the declared accounts; (): anybody."""


@dataclass(frozen=True, slots=True)
class SecretsSettings:
    """The key that encrypts what the store keeps of upstream passwords and tokens."""

    key_file: Path = Path("proxy.key")
    """Made when it is first needed. Not in the data directory: a backup would hold both."""
    key: str = field(default="", repr=False)
    """The key itself, for environment variables; "": it is in the file."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    listen: Address = Address("127.0.0.1:9110")
    """"": no HTTP at all."""
    hosts: tuple[HostName, ...] = ()
    """Names that requests may ask for, beside the machine's own."""
    account_names_in_metrics: bool = False
    """Whether labels are the names of accounts, addresses as a rule; if not, hashes of them."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: Level = "info"
    format: Literal["text", "json"] = "text"
    sessions: PartLevel = ""
    syncs: PartLevel = ""
    store: PartLevel = ""
    """Of these parts; "": as `level`."""

    @property
    def parts(self) -> dict[Literal["sessions", "syncs", "store"], PartLevel]:
        return {"sessions": self.sessions, "syncs": self.syncs, "store": self.store}


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: Path = Path("data")
    pop3: Pop3Settings = field(default_factory=Pop3Settings)
    limits: LimitsPolicy = field(default_factory=LimitsPolicy)
    upstream: UpstreamServer = field(default_factory=UpstreamServer)
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    sync: SyncPolicy = field(default_factory=SyncPolicy)
    devices: DevicePolicy = field(default_factory=DevicePolicy)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    store: StorePolicy = field(default_factory=StorePolicy)
    accounts: AccountsSettings = field(default_factory=AccountsSettings)
    secrets: SecretsSettings = field(default_factory=SecretsSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    alerts: AlertsPolicy = field(default_factory=AlertsPolicy)
    log: LogSettings = field(default_factory=LogSettings)
    account: tuple[DeclaredAccount, ...] = ()

    def default_policy(self) -> AccountPolicy:
        """What holds for every account that says nothing else."""
        return AccountPolicy(
            self.upstream, self.sync, self.devices, self.retention, self.smtp.server
        )
