"""What a message's header tells about which message it is, and how old.

Used only where UIDL does not decide: upstreams without it, with repeated or re-used ids, or with
all ids changed at once.
"""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime
from functools import cached_property

HEADER_LIMIT = 256 * 1024
"""Octets of a message's beginning that are looked at; real headers are far smaller."""

# Fields that servers write into a stored message and change from one session to the next.
_VOLATILE = re.compile(
    rb"^(?:Status|X-Status|X-UIDL|X-UID|X-IMAP|X-IMAPbase|X-Keywords):[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.I | re.M,
)
# A header identifies its message when it has a field that no two mails share.
_IDENTIFYING = re.compile(rb"^(?:Message-ID|Received):", re.I | re.M)
_RECEIVED = re.compile(rb"^Received:", re.I | re.M)
_ORIGIN = re.compile(
    rb"^(Message-ID|Date|From|Subject):((?:[^\n]*\n)(?:[ \t][^\n]*\n)*)", re.I | re.M
)
_TAIL = 4
_DATED = re.compile(rb"^(Received|Date):((?:[^\n]*\n)(?:[ \t][^\n]*\n)*)", re.I | re.M)


def header_of(beginning: bytes) -> bytes:
    """The header block, line ends included, without the empty line that ends it."""
    return beginning[: end_of_header(beginning)]


def end_of_header(beginning: bytes | bytearray, searched: int = 0) -> int | None:
    """Where the empty line is, looked for from `searched` on; None: it is not there yet."""
    if beginning.startswith(b"\r\n"):
        return 0
    found = beginning.find(b"\r\n\r\n", searched)
    return found + 2 if found >= 0 else None


class Fingerprint:
    """Of one message, taken while its octets pass; or of what TOP shows of it.

    What RETR and TOP give of the same message has the same header digest.
    """

    def __init__(self) -> None:
        self._beginning = bytearray()
        self._content: hashlib._Hash | None = None
        self._in_body = False
        self._tail = b""

    @classmethod
    def of(cls, octets: bytes) -> Fingerprint:
        made = cls()
        made.feed(octets)
        return made

    def feed(self, data: bytes) -> None:
        if self._in_body:
            self._feed_body(data)
            return
        searched = max(len(self._beginning) - 3, 0)
        self._beginning += data
        end = end_of_header(self._beginning, searched)
        if end is not None:
            body = bytes(self._beginning[end + 2 :])
            del self._beginning[end + 2 :]
            self._begin_body(body)
        elif len(self._beginning) > HEADER_LIMIT:
            del self._beginning[HEADER_LIMIT:]
            self._in_body = True

    @cached_property
    def header(self) -> bytes:
        return header_of(bytes(self._beginning))

    @property
    def was_received(self) -> bool:
        """Whether a server has stamped it, as it does each mail differently."""
        return _RECEIVED.search(self.header) is not None

    @cached_property
    def header_digest(self) -> bytes | None:
        """SHA-256 of the header, or None when it cannot tell this message from others."""
        if _IDENTIFYING.search(self.header) is None:
            return None
        return hashlib.sha256(_VOLATILE.sub(b"", self.header).rstrip(b"\r\n")).digest()

    @property
    def content_digest(self) -> bytes | None:
        """SHA-256 of what stays of a message whatever servers add to its header: who wrote it when
        under which subject, and the body. None where the header does not tell.

        To be asked when all octets have passed.
        """
        if self._content is None:
            return None
        whole = self._content.copy()
        whole.update(self._tail.rstrip(b"\r\n"))
        return whole.digest()

    @property
    def arrival(self) -> float | None:
        return arrival(self.header)

    def _begin_body(self, data: bytes) -> None:
        self._in_body = True
        origin = {
            found[1].lower(): b" ".join(found[2].split()) for found in _ORIGIN.finditer(self.header)
        }
        if origin.keys() & {b"message-id", b"date"}:
            self._content = hashlib.sha256(repr(sorted(origin.items())).encode())
        self._feed_body(data)

    def _feed_body(self, data: bytes) -> None:
        if self._content is None:
            return
        # Line ends at the very end come and go.
        data = self._tail + data
        self._content.update(data[:-_TAIL])
        self._tail = data[-_TAIL:]


def arrival(beginning: bytes) -> float | None:
    """When the message arrived by its topmost Received field, or was written by its Date field.

    Unix time; None when neither can be read.
    """
    dates: dict[bytes, float] = {}
    for found in _DATED.finditer(header_of(beginning)):
        text = found[2].rpartition(b";")[2] if found[1].lower() == b"received" else found[2]
        time = _unix_time(text.decode("latin-1"))
        if time is not None:
            dates.setdefault(found[1].lower(), time)
    return dates.get(b"received", dates.get(b"date"))


def _unix_time(text: str) -> float | None:
    try:
        return parsedate_to_datetime(" ".join(text.split())).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
