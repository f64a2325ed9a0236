"""Taking the content of one mail: spooled on the way, with the header that its copies have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from proxy.domain.errors import StoreUnavailable
from proxy.domain.message_id import message_id
from proxy.domain.model import Blob
from proxy.domain.policy import SubmissionLimits
from proxy.interfaces.store import BlobReader, BlobWriter
from proxy.interfaces.submission import Answer
from proxy.wire.dots import TERMINATOR, DotEncoder
from proxy.wire.smtp import LineEnds

HEADER_LIMIT = 1024 * 1024
"""Octets of a header; it is held in memory."""
PART = 64 * 1024

TOO_LARGE = Answer(552, "5.3.4 the mail is larger than is taken here")
HEADER_TOO_LARGE = Answer(552, "5.3.4 the mail's header is too large")
HARMFUL = Answer(554, "5.6.0 the mail holds a CR without LF, or a NUL, which mail must not")
NO_ROOM = Answer(452, "4.3.1 the mail cannot be stored now, try again later")


class Received:
    """The content of one mail. What is spooled is the copy, not the mail itself."""

    def __init__(
        self, writer: BlobWriter, limits: SubmissionLimits, header_of_copy: Callable[[bytes], bytes]
    ) -> None:
        self.octets = 0
        """Of the mail, with the line ends and without the dots that it goes upstream with."""
        self.message_id = ""
        """"": it has none, or it is not known yet."""
        self.problem: Answer | None = None
        """Why it is not taken."""
        self.went_whole = False
        """Whether all of it was given out to be sent."""
        self._writer = writer
        self._limits = limits
        self._header_of_copy = header_of_copy
        self._ends = LineEnds()
        self._start = bytearray()
        self._header: bytes | None = None
        """The mail's own; what was spooled in its place is `_skip` octets long."""
        self._skip = 0
        self._kept = False

    @property
    def eight_bit(self) -> bool:
        return self._ends.eight_bit

    async def feed(self, data: bytes, *, last: bool) -> None:
        """Octets of the mail, their dots unstuffed."""
        try:
            await self._take(self._ends.feed(data, last=last))
            if last and self._header is None and self.problem is None:
                await self._split(len(self._start))
        except StoreUnavailable:
            self.problem = NO_ROOM
        if self.problem is not None:
            self._start.clear()
            await self._writer.abort()

    async def _take(self, data: bytes) -> None:
        self.octets += len(data)
        if self._ends.harmful:
            self.problem = self.problem or HARMFUL
        if self.octets > self._limits.max_message_size:
            self.problem = self.problem or TOO_LARGE
        if self.problem is not None:
            return
        if self._header is not None:
            await self._writer.write(data)
            return
        searched = max(0, len(self._start) - 3)
        self._start += data
        if self._start.startswith(b"\r\n"):
            await self._split(0)
        elif (end := self._start.find(b"\r\n\r\n", searched)) >= 0:
            await self._split(end + 2)
        elif len(self._start) > HEADER_LIMIT:
            self.problem = HEADER_TOO_LARGE

    async def _split(self, at: int) -> None:
        """The header ends here."""
        self._header, body = bytes(self._start[:at]), bytes(self._start[at:])
        self.message_id = message_id(self._header)
        self._start.clear()
        header = self._header_of_copy(self._header)
        self._skip = len(header)
        await self._writer.write(header + body)

    async def parts(self) -> AsyncIterator[bytes]:
        """The mail as it goes upstream: stuffed, with its terminator.

        Raises:
            StoreUnavailable: it cannot be read back, and must not be taken for whole.
        """
        header = self._header or b""
        left = self.octets - len(header)
        encoder = DotEncoder()
        yield encoder.feed(header)
        # Opened before anybody else can use up what is spooled.
        reader = self._writer.reader()
        try:
            _skip(reader, self._skip)
            while data := reader.read(PART):
                left -= len(data)
                yield encoder.feed(data)
        finally:
            reader.close()
        if left:
            raise StoreUnavailable("a spooled mail cannot be read back")
        self.went_whole = True
        yield TERMINATOR

    async def copy(self) -> Blob:
        """The copy, for the store."""
        self._kept = True
        return await self._writer.finish()

    async def close(self) -> None:
        """Nothing is to be done with it any more."""
        if not self._kept:
            await self._writer.abort()


def _skip(reader: BlobReader, octets: int) -> None:
    while octets and (data := reader.read(min(octets, PART))):
        octets -= len(data)
