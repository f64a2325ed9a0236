"""Lines out of a stream of octets, with a bound on what an unfinished line may hold."""

from __future__ import annotations

import re
from enum import Enum


class TooLong(Enum):
    """What stands for a line that outgrew its limit; its octets are thrown away."""

    LINE = "line"


TOO_LONG = TooLong.LINE


class LineBuffer:
    """Collects octets and gives out lines without their end (CRLF, or a bare LF).

    Never holds more than was fed at once plus one unfinished line of `limit` octets: the rest of a
    longer line is skipped as it arrives, and the line is given out as `TOO_LONG`.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self._searched = 0
        self._skipping = False

    def __len__(self) -> int:
        return len(self._data) - self._start

    @property
    def overflowing(self) -> bool:
        """Whether the unfinished line is longer than its limit already."""
        return self._skipping

    def feed(self, data: bytes) -> None:
        self._data += data

    def clear(self) -> None:
        """Throw away all that is waiting."""
        self._data.clear()
        self._start = self._searched = 0
        self._skipping = False

    def take_all(self) -> bytes:
        """All octets waiting, whether or not they are whole lines."""
        data = bytes(self._data[self._start :])
        self.clear()
        return data

    def next_line(self, limit: int) -> bytes | TooLong | None:
        """The next line; None when no whole line is there yet."""
        end = self._data.find(b"\n", max(self._searched, self._start))
        if end < 0:
            self._compact()
            if len(self._data) > limit:
                self._skipping = True
                self._data.clear()
            self._searched = len(self._data)
            return None
        line = bytes(self._data[self._start : end])
        self._start = self._searched = end + 1
        if self._start == len(self._data):
            self._compact()
        if self._skipping or len(line) > limit:
            self._skipping = False
            return TOO_LONG
        return line.removesuffix(b"\r")

    def _compact(self) -> None:
        del self._data[: self._start]
        self._start = self._searched = 0


_BARE_LF = re.compile(rb"(?<!\r)\n")


class CrlfNormaliser:
    """Turns every bare LF into CRLF; a CR that stands alone stays. Works at any split."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        if not data:
            return data
        leading_lf = self._after_cr and data.startswith(b"\n")
        self._after_cr = data.endswith(b"\r")
        if data.count(b"\n") == data.count(b"\r\n") + leading_lf:
            return data
        if leading_lf:
            return b"\n" + _BARE_LF.sub(b"\r\n", data[1:])
        return _BARE_LF.sub(b"\r\n", data)
