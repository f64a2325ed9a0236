"""Sending mail: the door to upstream's SMTP server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.domain.policy import SmtpServer

GO_ON = 354
"""The answer to DATA after which the content is due."""


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
        """One command, without its line end, and its answer. After `GO_ON` the content is due."""

    async def write(self, data: bytes) -> Answer | None:
        """A part of the content, stuffed; waits until there is room for the next one.

        An answer: the server has given it before the content was whole, and wants no more. Then
        the session is not to be used any more.
        """

    async def end(self) -> Answer:
        """The end of the content, and the answer to all of it. The server has the mail whole from
        the moment on at which this is called, for all that is known if it raises."""

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
