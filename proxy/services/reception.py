"""Taking the content of one mail: made fit for upstream, and spooled as the copy."""

from __future__ import annotations

from collections.abc import Callable

from proxy.domain.errors import StoreUnavailable
from proxy.domain.fingerprint import end_of_header
from proxy.domain.message_id import message_id
from proxy.domain.model import Blob
from proxy.domain.policy import SubmissionLimits
from proxy.interfaces.store import BlobWriter
from proxy.interfaces.submission import Answer
from proxy.services.room import Claim
from proxy.services.smtp_answers import (
    CONVERSION,
    HARMFUL,
    HEADER_TOO_LARGE,
    NO_ROOM,
    TOO_LARGE,
)
from proxy.wire.dots import DotEncoder
from proxy.wire.smtp import LineEnds

HEADER_LIMIT = 256 * 1024
"""Octets of a header. It is held in memory, and nobody else is served while it becomes that of the
copy."""


class Received:
    """The content of one mail. What is spooled is the copy, not the mail itself."""

    def __init__(
        self,
        writer: BlobWriter,
        limits: SubmissionLimits,
        header_of_copy: Callable[[bytes], bytes],
        claim: Claim,
        *,
        seven_bit: bool,
    ) -> None:
        """`claim`: the room there is for it. `seven_bit`: upstream takes no other octets."""
        self.octets = 0
        """Of the mail, with the line ends and without the dots that it goes upstream with."""
        self.message_id = ""
        """"": it has none, or it is not known yet."""
        self.problem: Answer | None = None
        """Why it is not taken, whatever more comes of it; upstream may have said so."""
        self._writer = writer
        self._limits = limits
        self._claim = claim
        self._header_of_copy = header_of_copy
        self._seven_bit = seven_bit
        self._ends = LineEnds()
        self._dots = DotEncoder()
        self._header: bytearray | None = bytearray()
        """None: all of it is here."""
        self._kept = False

    async def feed(self, data: bytes, *, last: bool) -> bytes:
        """Take octets of the mail, their dots unstuffed. Returns what goes upstream, stuffed."""
        data = self._ends.feed(data, last=last)
        self.octets += len(data)
        if self.problem is None:
            self.problem = self._wrong or (None if self._claim.takes(len(data)) else NO_ROOM)
        if self.problem is None:
            try:
                await self._spool(data, last=last)
            except StoreUnavailable:
                self.problem = NO_ROOM
        if self.problem is not None:
            self._header = None
            self._claim.end()
            await self._writer.abort()
            return b""
        return self._dots.feed(data)

    @property
    def _wrong(self) -> Answer | None:
        if self._ends.harmful:
            return HARMFUL
        if self.octets > self._limits.max_message_size:
            return TOO_LARGE
        return CONVERSION if self._seven_bit and self._ends.eight_bit else None

    async def _spool(self, data: bytes, *, last: bool) -> None:
        if self._header is None:
            await self._writer.write(data)
            return
        searched = max(0, len(self._header) - 3)
        self._header += data
        end = end_of_header(self._header, searched)
        if (len(self._header) if end is None else end) > HEADER_LIMIT:
            self.problem = HEADER_TOO_LARGE
        elif end is not None or last:
            whole = bytes(self._header)
            header = whole[:end]
            self._header = None
            self.message_id = message_id(header)
            await self._writer.write(self._header_of_copy(header) + whole[len(header) :])

    async def copy(self) -> Blob:
        """The copy, for the store."""
        self._kept = True
        return await self._writer.finish()

    async def close(self) -> None:
        """Nothing is to be done with it any more."""
        self._claim.end()
        if not self._kept:
            await self._writer.abort()
