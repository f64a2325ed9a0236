"""The header of the copy that other devices get of a mail that was sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

MARK = b"X-POP3-Sync-Proxy: sent\r\n"
_DEVICE = b"X-POP3-Sync-Proxy-Device: %b\r\n"

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_RECIPIENTS = {b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc"}
_BLIND = {b"bcc", b"resent-bcc"}


def copy_header(header: bytes, *, device: str, recipients: Iterable[str], keep_bcc: bool) -> bytes:
    """What stands in the place of a mail's header, with CRLF line ends, up to the empty line.

    It tells which recipients no field names, unless blind copies are not to be told at all.
    """
    fields = _fields(header)
    rest = header[sum(map(len, fields)) :]
    made = MARK + (_DEVICE % device.encode() if device else b"")
    if keep_bcc:
        named = b"".join(field for field in fields if _name(field) in _RECIPIENTS)
        made += _bcc([r for r in recipients if not _names(named, r)])
    else:
        fields = [field for field in fields if _name(field) not in _BLIND]
    if rest and not rest.startswith(b"\r\n"):
        # There is no header, or it ends in the middle: what follows is content all the same.
        rest = rest if fields else b"\r\n" + rest
    return made + b"".join(fields) + rest


def _fields(header: bytes) -> list[bytes]:
    """Whole fields from the start on, as far as there are any."""
    fields, at = [], 0
    while found := _FIELD.match(header, at):
        fields.append(found[0])
        at = found.end()
    return fields


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()


def _names(fields: bytes, address: str) -> bool:
    """Whether the address stands there, and not as a part of a longer one."""
    pattern = rb"(?<![\w.+=-])" + re.escape(address.encode()) + rb"(?![\w.-])"
    return re.search(pattern, fields, re.IGNORECASE) is not None


def _bcc(addresses: list[str]) -> bytes:
    if not addresses:
        return b""
    return b"Bcc: " + b",\r\n ".join(f"<{address}>".encode() for address in addresses) + b"\r\n"
