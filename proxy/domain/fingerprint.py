"""What a message's header tells about which message it is, and how old.

Used only where UIDL does not decide: upstreams without it, with repeated or re-used ids, or with
all ids changed at once.
"""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime

HEADER_LIMIT = 256 * 1024
"""Octets of a message's beginning that are looked at; real headers are far smaller."""

# Fields that servers write into a stored message and change from one session to the next.
_VOLATILE = re.compile(
    rb"^(?:Status|X-Status|X-UIDL|X-Keywords):[^\n]*\n(?:[ \t][^\n]*\n)*", re.I | re.M
)
# A header identifies its message when it has a field that no two mails share.
_IDENTIFYING = re.compile(rb"^(?:Message-ID|Received):", re.I | re.M)
_DATED = re.compile(rb"^(Received|Date):((?:[^\n]*\n)(?:[ \t][^\n]*\n)*)", re.I | re.M)


def header_of(beginning: bytes) -> bytes:
    """The header block, line ends included, without the empty line that ends it."""
    end = beginning.find(b"\r\n\r\n")
    if beginning.startswith(b"\r\n"):
        return b""
    return beginning[: end + 2] if end >= 0 else beginning


def header_digest(beginning: bytes) -> bytes | None:
    """SHA-256 of the header, or None when the header cannot tell this message from others.

    Equal for what RETR and TOP give of the same message.
    """
    header = header_of(beginning)
    if _IDENTIFYING.search(header) is None:
        return None
    return hashlib.sha256(_VOLATILE.sub(b"", header).rstrip(b"\r\n")).digest()


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
