"""TOP: the header, the empty line, and the first lines of the body (RFC 1939 §7)."""

from __future__ import annotations


class TopCutter:
    """Cuts the octets of a message after the lines that TOP asks for; works at any split."""

    def __init__(self, lines: int) -> None:
        self._body_lines = lines
        self._in_header = True
        # Octets of the line under way; an empty line ends the header.
        self._line_octets = 0
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The part of `data` that belongs to the answer."""
        position = 0
        while not self.done and position < len(data):
            end = data.find(b"\n", position)
            if end < 0:
                self._line_octets += len(data) - position
                return data
            length = self._line_octets + end - position
            empty = length == 0 or (length == 1 and self._ends_in_cr(data, end))
            self._line_octets = 0
            position = end + 1
            if self._in_header:
                self._in_header = not empty
                self.done = not self._in_header and self._body_lines == 0
            else:
                self._body_lines -= 1
                self.done = self._body_lines == 0
        return data[:position]

    @staticmethod
    def _ends_in_cr(data: bytes, end: int) -> bool:
        # A line of one octet whose CR came with the data before it can be nothing but that CR.
        return end == 0 or data[end - 1 : end] == b"\r"
