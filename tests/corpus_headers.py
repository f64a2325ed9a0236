"""Headers as nobody writes them but who wants a server to stand still, of about so many octets."""

from __future__ import annotations

KINDS: dict[str, tuple[bytes, bytes, bytes]] = {
    "dates": (b"", b"Date: x\r\n", b""),
    "valid dates": (b"", b"Date: Mon, 1 Jun 2026 10:00:00 +0000\r\n", b""),
    "received": (b"", b"Received: ;1 Jun 2026 1:1\r\n", b""),
    "parentheses": (b"Date: ", b"(", b"\r\n"),
    "words of a date": (b"Date: ", b"1 Jan,-", b"\r\n"),
    "short fields": (b"", b"a:\r\n", b""),
    "no fields": (b"", b"a\r\n", b""),
    "fields of servers": (b"Message-ID: <a@b>\r\n", b"X-UID:\r\n", b""),
    "nearly a field": (b"", b"receive\r\n", b""),
    "message ids": (b"", b"Message-ID:\r\n", b""),
    "a folded message id": (b"Message-ID:", b"\r\n ", b"\r\n"),
    "a name without end": (b"Message-ID", b" ", b"\r\n"),
    "brackets": (b"Message-ID: ", b"<a", b"\r\n"),
    "one line": (b"", b"x", b""),
    "addresses": (b"To: ", b"a@b.org,", b"\r\n"),
    "folded addresses": (b"To:", b"\r\n a@b.org,", b"\r\n"),
    "copies": (b"", b"cc:\r\n", b""),
    "blind copies": (b"", b"bcc:a\r\n", b""),
    "quotes": (b"To: ", b'"\\', b"\r\n"),
    "literals": (b"To: ", b"[", b"\r\n"),
    "at": (b"To: ", b"@", b"\r\n"),
}


def header(kind: str, octets: int) -> bytes:
    begin, filling, end = KINDS[kind]
    return begin + filling * (octets // len(filling)) + end
