"""TOP: the header, the empty line, and the first lines of the body (RFC 1939 §7)."""

from __future__ import annotations

import re

_EMPTY_LINE = re.compile(rb"\n\r?\n")


class TopCutter:
    """Cuts the octets of a message after the lines that TOP asks for; works at any split.

    Lines are never looked at one by one: a message may be nothing but line ends.
    """

    def __init__(self, lines: int) -> None:
        self._body_lines = lines
        self._in_header = True
        # As if a line had ended before the first one, since an empty line ends the header.
        self._tail = b"\n"
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The part of `data` that belongs to the answer."""
        body = self._end_of_header(data) if self._in_header else 0
        if body is None:
            return data
        self._in_header = False
        lines = data.count(b"\n", body)
        if lines < self._body_lines:
            self._body_lines -= lines
            return data
        self.done = True
        behind = data[body:].split(b"\n", self._body_lines)[-1]
        return data[: len(data) - len(behind)]

    def _end_of_header(self, data: bytes) -> int | None:
        seam = self._tail + data
        found = _EMPTY_LINE.search(seam)
        if found is not None:
            return found.end() - len(self._tail)
        self._tail = seam[-2:]
        return None
