"""SMTP replies as octets (RFC 5321 §4.2), every line with an enhanced status code (RFC 2034)."""

from __future__ import annotations

import re

LINE_LIMIT = 500
LINES = 20
"""Octets of a line and lines of an answer that are passed on."""

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def reply_octets(code: int, text: str) -> bytes:
    """`text` may be anybody's; its lines are separated by LF."""
    texts = [_CONTROL.sub(" ", line) for line in text.split("\n")][:LINES]
    found = _ENHANCED.match(texts[0])
    status = found[0] if found else f"{code // 100}.0.0"
    lines = []
    for number, one in enumerate(texts, 1):
        mark = " " if number == len(texts) else "-"
        whole = one if _ENHANCED.match(one) else f"{status} {one}"
        shown = whole.encode(errors="replace")[:LINE_LIMIT]
        lines.append(f"{code}{mark}".encode() + shown + b"\r\n")
    return b"".join(lines)
