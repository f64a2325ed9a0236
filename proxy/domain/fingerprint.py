"""What a message's header tells about which message it is, and how old.

Used only where UIDL does not decide: upstreams without it, with repeated or re-used ids, or with
all ids changed at once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import islice

HEADER_LIMIT = 256 * 1024
"""Octets of a message's beginning that are looked at; real headers are far smaller."""

_FIELD = re.compile(rb"\n([SXRMDF][^\n:]{3,9}):([^\n]*(?:\n[ \t][^\n]*)*)(?=\n)", re.I)
"""Fields that may be one of those below. It begins with a line end, which is searched for fast."""
_MANY_FIELDS = 1000
_MANY_DATES = 50
"""How many of them are looked at: a header may be made to hold up everybody else, and each of its
octets is chosen by whoever wrote it. Those behind count like any other octets."""
_LONG_DATE = 200
"""Octets of a field that are looked at for a date, which it begins with."""

_VOLATILE = frozenset(
    {b"status", b"x-status", b"x-uidl", b"x-uid", b"x-imap", b"x-imapbase", b"x-keywords"}
)
"""Fields that servers write into a stored message and change from one session to the next."""
_IDENTIFYING = frozenset({b"message-id", b"received"})
"""A header identifies its message when it has a field that no two mails share."""
_ORIGIN = frozenset({b"message-id", b"date", b"from", b"subject"})
_KNOWN = _VOLATILE | _IDENTIFYING | _ORIGIN
_TAIL = 4


@dataclass(frozen=True, slots=True)
class _Field:
    name: bytes
    """In lower case."""
    value: bytes
    """With the line ends inside it, without the last one."""
    start: int
    end: int
    """Where it stands in the header, its line end included."""


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
        return any(field.name == b"received" for field in self._fields)

    @cached_property
    def header_digest(self) -> bytes | None:
        """SHA-256 of the header, or None when it cannot tell this message from others."""
        if not any(field.name in _IDENTIFYING for field in self._fields):
            return None
        kept, at = [], 0
        for field in self._fields:
            if field.name in _VOLATILE:
                kept.append(self.header[at : field.start])
                at = field.end
        kept.append(self.header[at:])
        return hashlib.sha256(b"".join(kept).rstrip(b"\r\n")).digest()

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
        """When the message arrived by its topmost Received field, or was written by its Date field.

        Unix time; None when neither can be read.
        """
        written = None
        dated = (field for field in self._fields if field.name in (b"received", b"date"))
        for field in islice(dated, _MANY_DATES):
            if field.name == b"received":
                received = _unix_time(field.value.rpartition(b";")[2])
                if received is not None:
                    return received
            elif written is None:
                written = _unix_time(field.value)
        return written

    @cached_property
    def _fields(self) -> list[_Field]:
        """Those that tell something here, in their order."""
        header = b"\n" + self.header
        candidates = islice(_FIELD.finditer(header), _MANY_FIELDS)
        return [
            _Field(found[1].lower(), found[2], found.start(), found.end())
            for found in candidates
            if found[1].lower() in _KNOWN
        ]

    def _begin_body(self, data: bytes) -> None:
        self._in_body = True
        origin = {
            field.name: b" ".join(field.value.split())
            for field in self._fields
            if field.name in _ORIGIN
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


def _unix_time(value: bytes) -> float | None:
    text = value.lstrip()[:_LONG_DATE].decode("latin-1")
    try:
        return parsedate_to_datetime(" ".join(text.split())).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
