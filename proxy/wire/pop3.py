"""The grammar both sides share: replies, response codes, limits."""

from __future__ import annotations

import re
from dataclasses import dataclass

COMMAND_LINE_LIMIT = 1024
"""Octets of a command. RFC 2449 §4 allows 255; user names and passwords are longer at times."""

SASL_LINE_LIMIT = 12288
"""Octets of a line of a SASL exchange (RFC 4954 §4, which RFC 5034 follows)."""

REPLY_LINE_LIMIT = 8192
"""Octets of a status line we accept. RFC 2449 §4 allows 512; error texts are longer at times."""

_RESPONSE_CODE = re.compile(r"\[([A-Za-z0-9/._-]+)\](?: |$)")


@dataclass(frozen=True, slots=True)
class Expire:
    """How long a message stays after a device has had it (RFC 2449 §6.7)."""

    days: int | None
    """None: for ever."""
    may_differ: bool = False
    """Whether that may be another number once it is known who logs in."""

    def __str__(self) -> str:
        days = "NEVER" if self.days is None else str(self.days)
        return f"EXPIRE {days} USER" if self.may_differ else f"EXPIRE {days}"


NEVER = Expire(None)


@dataclass(frozen=True, slots=True)
class Reply:
    """One status line (RFC 1939 §3), or the "+ " line of a SASL exchange (RFC 5034 §4)."""

    ok: bool
    text: str
    code: str = ""
    """Response code in upper case without its brackets (RFC 2449 §8)."""
    challenge: bool = False


def parse_reply(line: bytes) -> Reply | None:
    """None when the line is no status line at all."""
    text = line.decode("utf-8", "replace")
    if line.startswith(b"+OK"):
        return Reply(ok=True, text=text[3:].strip())
    if line.startswith(b"-ERR"):
        rest = text[4:].strip()
        found = _RESPONSE_CODE.match(rest)
        return Reply(ok=False, text=rest, code=found[1].upper() if found else "")
    if line == b"+" or line.startswith(b"+ "):
        return Reply(ok=True, text=text[2:], challenge=True)
    return None
