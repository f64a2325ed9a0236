"""What sessions with an upstream leave for later ones, in memory: a restart learns it anew."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.domain.pipelining import PipelineTrust

PATIENCE = 60.0
"""Seconds an upstream may stay silent. RFC 1939 §3 lets a server wait ten minutes for us; few need
a minute to answer."""
PATIENCE_LIMIT = 480.0


@dataclass(slots=True)
class ServerMemory:
    """Of one host and port."""

    trust: PipelineTrust = field(default_factory=PipelineTrust)
    patience: float = PATIENCE
    """Doubled by each silence, since some servers need minutes to list a large mailbox."""

    def be_more_patient(self) -> None:
        self.patience = min(self.patience * 2, PATIENCE_LIMIT)


@dataclass(slots=True)
class LoginMemory:
    """Of one account: SASL names of mechanisms."""

    proven: set[str] = field(default_factory=set)
    """Upstream has accepted the account's password by these."""
    unsuited: set[str] = field(default_factory=set)
    """Announced, but upstream cannot check the account's password by these: it keeps another hash
    of it, or does not know what AUTH is."""


@dataclass(slots=True)
class UpstreamMemory:
    server: ServerMemory = field(default_factory=ServerMemory)
    login: LoginMemory = field(default_factory=LoginMemory)
    shown: bool = False
    """Whether upstream may have seen the password."""
