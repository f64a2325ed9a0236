"""Sending mail: the door to upstream's SMTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.domain.policy import SmtpServer


@dataclass(frozen=True, slots=True)
class Answer:
    """An SMTP reply (RFC 5321 §4.2)."""

    code: int
    text: str
    """With the enhanced status code (RFC 3463), if there is one; lines are separated by LF."""

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        return 400 <= self.code < 600


class UpstreamSmtp(Protocol):
    """A session with an SMTP server, past its greeting, TLS and EHLO.

    Whatever breaks it raises `UpstreamUnreachable`, and it is not to be used any more.
    """

    offers: Mapping[str, str]
    """What EHLO lists: keyword in upper case → its parameters."""
    encrypted: bool
    peer: str
    """Address of the server."""

    async def command(self, line: bytes) -> Answer:
        """One command, without its line end, and its answer."""

    async def send(self, parts: AsyncIterator[bytes]) -> Answer:
        """What follows the 354 of DATA, the terminator included; ends early when upstream answers
        before it has all."""

    async def quit(self) -> None:
        """End the session; never raises."""

    def abort(self) -> None:
        """Hang up."""


class SmtpDialer(Protocol):
    async def open(self, server: SmtpServer) -> UpstreamSmtp:
        """Connect, up to the point where a login is due.

        Raises:
            UpstreamUnreachable, UpstreamBusy, UpstreamUnusable.
        """
