"""The header of the copy that other devices get of a mail that was sent.

Whoever sends may write a header of a hundred thousand fields, so no Python runs for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

MARK = b"X-POP3-Sync-Proxy: sent\r\n"
_DEVICE = b"X-POP3-Sync-Proxy-Device: %b\r\n"

_FIELDS = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*+)*+")
"""Whole fields from the start on, as far as there are any."""
_RECIPIENTS = re.compile(rb"\n(?:Resent-)?(?:To|B?Cc)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.I)
_BLIND = re.compile(rb"\n(?:Resent-)?Bcc[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.I)
"""Fields with the line end before them, which is searched for fast, and without their own."""

_WORD = re.compile(rb'[^\s<>,;:()"\[\]]+')
"""An address, but for a local part in quotes and a domain in brackets, which are several."""
MANY = 10_000
"""Recipient fields, and words of them, that are looked at. Whom others name stands in Bcc too."""


def copy_header(header: bytes, *, device: str, recipients: Iterable[str], keep_bcc: bool) -> bytes:
    """What stands in the place of a mail's header, with CRLF line ends, up to the empty line.

    It tells which recipients no field names, unless blind copies are not to be told at all.
    """
    found = _FIELDS.match(header)
    end = found.end() if found else 0
    fields, rest = b"\n" + header[:end], header[end:]
    made = MARK + (_DEVICE % device.encode() if device else b"")
    if keep_bcc:
        named = b"".join(each[0] for each in islice(_RECIPIENTS.finditer(fields), MANY))
        words = set(islice(_words(named), MANY))
        made += _bcc([r for r in recipients if not words.issuperset(_words(r.encode()))])
    else:
        fields = _BLIND.sub(b"", fields)
    if rest and not rest.startswith(b"\r\n"):
        # There is no header, or it ends in the middle: what follows is content all the same.
        rest = rest if len(fields) > 1 else b"\r\n" + rest
    return made + fields[1:] + rest


def _words(octets: bytes) -> Iterator[bytes]:
    return (found[0].lower() for found in _WORD.finditer(octets))


def _bcc(addresses: list[str]) -> bytes:
    if not addresses:
        return b""
    return b"Bcc: " + b",\r\n ".join(f"<{address}>".encode() for address in addresses) + b"\r\n"
