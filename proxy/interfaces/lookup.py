"""Doors for finding a provider's settings: DNS and the web."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782."""

    host: str
    """"" when the record says that there is no such service."""
    port: int


class Lookup(Protocol):
    async def srv(self, name: str) -> list[Srv]:
        """Best first; none where there are none, or no answer."""

    async def mx(self, domain: str) -> list[str]:
        """Mail servers of a domain, best first."""

    async def fetch(self, url: str) -> bytes | None:
        """A document, over verified TLS; None where there is none, or too long a one."""
