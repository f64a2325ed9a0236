"""One message on its way to a device: read, cut for TOP, stuffed, part by part."""

from __future__ import annotations

from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Message
from proxy.interfaces.store import BlobReader
from proxy.wire.dots import DotEncoder
from proxy.wire.top import TopCutter

CHUNK = 64 * 1024
"""Octets read from a blob at once."""

TOP_OF_ALL = 1_000_000
"""A TOP with so many lines is a RETR by another name: fetchmail fetches so what it leaves on the
server. One with fewer is a look at a message, even if the message happens to be shorter."""


def fetches(top_lines: int | None) -> bool:
    """Whether a device that asks for so many lines, or by RETR (None), fetches the message."""
    return top_lines is None or top_lines >= TOP_OF_ALL


class Transfer:
    """The answer to a RETR, or to a TOP of so many lines."""

    def __init__(
        self, number: int, message: Message, reader: BlobReader, top_lines: int | None = None
    ) -> None:
        self.number = number
        self.done = False
        self.counts = fetches(top_lines)
        """Whether the device has the message once this is complete."""
        self._reader = reader
        self._left = message.octets
        self._top = None if top_lines is None else TopCutter(top_lines)
        self._encoder = DotEncoder() if message.dots else None

    @property
    def comparing(self) -> bool:
        """Whether all that is asked for has gone, and only the comparison goes on."""
        return self._top is not None and self._top.done

    def next_part(self) -> bytes:
        """The next octets for the wire; `done` tells whether they were the last.

        Also what TOP does not show is read: only with the last octet it is known whether all are
        what was stored, and only then the answer may end.

        Raises:
            StoreUnavailable: the blob cannot be read, or is not what was stored.
        """
        data = self._reader.read(CHUNK)
        self._left -= len(data)
        if not data and self._left:
            raise StoreUnavailable("a blob ends early")
        if self._top is not None:
            data = b"" if self._top.done else self._top.feed(data)
        self.done = self._left == 0
        return self._encoder.feed(data) if self._encoder else data

    def close(self) -> None:
        self._reader.close()
