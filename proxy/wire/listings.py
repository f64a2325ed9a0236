"""The answers to LIST and UIDL (RFC 1939 §5, §7), read with suspicion."""

from __future__ import annotations

import re

from proxy.wire.errors import RemoteProtocolError

MESSAGES_LIMIT = 500_000
"""Lines of a listing."""

_LINE = re.compile(rb"[ \t]*([1-9][0-9]{0,8})(?:[ \t]+([^\r\n]*))?")
_SIZE = re.compile(r"[0-9]{1,15}")


def numbered(body: bytes) -> tuple[dict[int, str], bool]:
    """Message number → the rest of its line, and whether all lines made sense.

    A number that stands twice keeps its first line.

    Raises:
        RemoteProtocolError: no line makes sense, or there are too many.
    """
    found: dict[int, str] = {}
    sound = True
    lines = body.split(b"\r\n")
    if len(lines) > MESSAGES_LIMIT:
        raise RemoteProtocolError(f"a listing of more than {MESSAGES_LIMIT} messages")
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) in found:
            sound = sound and not line
        else:
            found[int(match[1])] = (match[2] or b"").decode("latin-1").rstrip()
    if not found and not sound:
        raise RemoteProtocolError("a listing that makes no sense")
    return found, sound


def size(rest: str) -> int | None:
    """Octets, from what follows the number in LIST; None where that is no size."""
    word = rest.partition(" ")[0]
    return int(word) if _SIZE.fullmatch(word) else None
