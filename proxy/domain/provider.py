"""What is known of one provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class OAuthServer:
    authorization_url: str
    token_url: str
    scope: str
    device_url: str = ""
    """"": the device flow gives no access to mail."""


@dataclass(frozen=True, slots=True)
class OutgoingServer:
    host: str
    port: int = 465
    tls: Literal["implicit", "starttls"] = "implicit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    name: str
    """What `upstream.provider` says."""
    title: str
    host: str
    sources: tuple[str, ...]
    domains: tuple[str, ...] = ()
    """Of addresses."""
    exchangers: tuple[str, ...] = ()
    """What the MX hosts of its customers' own domains end with, at a dot."""
    port: int = 995
    login: Literal["password", "app-password", "oauth"] = "password"
    """What to log in with; "app-password" is one made at the provider for this program."""
    local_part: bool = False
    """The login name is what stands before the @."""
    oauth: OAuthServer | None = None
    login_interval: float = 0.0
    """Seconds at least between two logins; 0: no source says."""
    retr_hides: bool = False
    """A message that was retrieved is not listed again."""
    hints: tuple[str, ...] = ()
    """What a person has to know or do, sentence by sentence."""


def ispdb(name: str) -> str:
    """The address of an entry of Thunderbird's directory."""
    return f"https://github.com/thunderbird/autoconfig/blob/master/ispdb/{name}.xml"


def in_countries(name: str, ends: str) -> tuple[str, ...]:
    """NAME.END for each of the ends, which stand between spaces."""
    return tuple(f"{name}.{end}" for end in ends.split())
