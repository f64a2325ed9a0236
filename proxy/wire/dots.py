"""Dot-stuffing both ways, streaming: RFC 1939 §3, "byte-stuffed"; works at any split of the input.

Both codecs know CRLF alone as the end of a line. A line that ends in a bare LF is no line here, so
nothing inside a mail can pass for the end of it.
"""

from __future__ import annotations

from proxy.wire.errors import LocalProtocolError

TERMINATOR = b".\r\n"
_END = b"\r\n.\r\n"


class DotEncoder:
    """Doubles the dot that begins a line."""

    def __init__(self) -> None:
        # A message starts at the start of a line.
        self._last = b"\r\n"

    def feed(self, data: bytes) -> bytes:
        seam = self._last + data
        skip = len(self._last)
        self._last = seam[-2:]
        return seam.replace(b"\r\n.", b"\r\n..")[skip:]


class DotDecoder:
    """Takes a multi-line response apart: its octets, unstuffed, up to the line that is one dot."""

    def __init__(self) -> None:
        # As if the line end of the +OK line stood before the first octet; it is not given out.
        self._held = b"\r\n"
        self._unseen = 2
        self._done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Returns the octets known to be message now, and what follows the terminator.

        The second is None until the terminator has been seen; after that `feed` must not be called.
        At most 4 octets are held back between calls.
        """
        if self._done:
            raise LocalProtocolError("the response has ended")
        seam = self._held + data
        end = seam.find(_END)
        if end >= 0:
            self._done = True
            self._held = b""
            return self._unstuff(seam[: end + 2]), seam[end + len(_END) :]
        keep = _undecided(seam)
        cut = len(seam) - keep
        self._held = seam[cut:]
        return self._unstuff(seam[:cut]), None

    def _unstuff(self, data: bytes) -> bytes:
        if not data:
            return data
        skip, self._unseen = self._unseen, 0
        return data.replace(b"\r\n.", b"\r\n")[skip:]


def _undecided(seam: bytes) -> int:
    """Length of the longest end of `seam` that may be the beginning of the terminator."""
    for length in range(min(len(_END) - 1, len(seam)), 0, -1):
        if _END.startswith(seam[-length:]):
            return length
    return 0
