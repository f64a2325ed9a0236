"""The name that a mail's writer has given it (RFC 5322 §3.6.4)."""

from __future__ import annotations

import re

LONGEST = 998
"""Octets: of a line, RFC 5322 §2.1.1."""

_FIELD = re.compile(rb"\nMessage-ID[ \t]*:((?:[^\n]*\n)(?:[ \t][^\n]*\n)*)", re.I)
"""It begins with the line end before it, which is searched for fast."""
_ID = re.compile(rb"<[^<>\s\x00-\x1f\x7f]+>")


def message_id(header: bytes) -> str:
    """What the header's Message-ID field holds, angle brackets included; "" where that is nothing.

    Of several fields the first counts.
    """
    field = _FIELD.search(b"\n" + header)
    found = _ID.search(field[1]) if field else None
    return found[0].decode("latin-1") if found and len(found[0]) <= LONGEST else ""
