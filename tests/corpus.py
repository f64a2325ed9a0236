"""Mails that break mail programs, always the same ones: the input of every end-to-end test.

A mail is what lies in the upstream's mailbox, as octets. Lines end in CRLF unless the line ending
is the point of the mail.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache

LARGE_OCTETS = 25 * 1024 * 1024
_SEED = 1939
_RANDOM_MAILS = 150
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def normalise(raw: bytes) -> bytes:
    """What a device must see of a mail that lies in the upstream's mailbox as `raw`.

    Every line ends in CRLF, the last one too: a bare LF becomes CRLF, and a mail without a final
    line end gets one. A CR with no LF behind it stays, and so does every other octet. This is what
    Dovecot sends; `e2e.test_corpus` holds it to that.
    """
    text = re.sub(rb"(?<!\r)\n", b"\r\n", raw)
    return text if text.endswith(b"\n") else text + b"\r\n"


@cache
def corpus() -> tuple[bytes, ...]:
    """Every mail but the large one, more than 200 of them."""
    return tuple(raw for _, raw in _named())


@cache
def large_mail() -> bytes:
    """A mail with an attachment of 25 MiB in base64-like lines."""
    luck = random.Random(_SEED)
    # Lines are drawn from a pool; every one apart from the others would cost seconds to make.
    pool = [bytes(luck.choices(_ALPHABET, k=76)) + b"\r\n" for _ in range(997)]
    lines = luck.choices(pool, k=LARGE_OCTETS // 78)
    return _head("large attachment") + b"".join(lines)


def dots_first() -> tuple[bytes, ...]:
    """Mails whose very first octet is a dot: not part of `corpus`, for Dovecot 2.3 breaks them.

    It does not stuff a dot that no line end precedes, so that such a mail loses it, and one that
    begins with a line of one dot ends there: the rest of it comes where replies belong.
    """
    return (
        b".Odd: header\r\n" + _head("dot as first octet") + b"x\r\n",
        b"..\r\n" + _head("dots as first line") + b"x\r\n",
        b".\r\n" + _head("dot line as first line") + b"x\r\n",
        b".",
    )


def name_of(delivered: bytes) -> str:
    """Which mail of the corpus a device has got, for messages of failed tests."""
    return _names().get(delivered, f"unknown, {len(delivered)} octets: {delivered[:60]!r}")


@cache
def _names() -> dict[bytes, str]:
    return {normalise(raw): name for name, raw in _named()}


def _head(subject: str, *more: bytes) -> bytes:
    """A header with its empty line; the Message-ID follows from the subject."""
    ident = re.sub(r"[^a-z0-9]+", "-", subject.lower())
    lines = [
        b"Received: from a.example by b.example; Mon, 6 Jan 2025 10:00:00 +0000",
        b"From: Ada <ada@example.com>",
        b"To: Bob <bob@example.com>",
        b"Date: Mon, 6 Jan 2025 10:00:00 +0000",
        f"Subject: {subject}".encode(),
        f"Message-ID: <{ident}@example.com>".encode(),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@cache
def _named() -> tuple[tuple[str, bytes], ...]:
    return (
        *_dots(),
        *_shapes(),
        *_line_ends(),
        *_octets(),
        *_sizes(),
        *_replies(),
        *_random_mails(),
    )


def _dots() -> Iterator[tuple[str, bytes]]:
    bodies = {
        "one dot": b".\r\n",
        "two dots": b"..\r\n",
        "three dots": b"...\r\n",
        "dots and text": b".x\r\n..x\r\n...x\r\n",
        "dots all over": b"a\r\n.\r\nb\r\n..\r\nc\r\n.\r\n.\r\n.\r\n",
        "dot and space": b". \r\n .\r\n.\t\r\n",
        "dot without line end": b"a\r\n.",
        "dots without line end": b"a\r\n..",
        "dot after bare LF": b"a\n.\nb\n..c\n",
        "dot after bare CR": b"a\r.\rb\r..\r\n",
        "dot between CR and CRLF": b"a\r\r\n.\r\r\n.\r\n",
        "many dots": b".\r\n" * 4000,
        "only long dots": b"." * 9000 + b"\r\n",
    }
    for name, body in bodies.items():
        yield name, _head(name) + body
    yield "dot in header", _head("dot in header", b".", b"..", b".X-Odd: 1") + b"x\r\n"
    for octets in (1022, 1023, 1024, 4095, 4096, 8191, 8192, 16383, 65535, 65536):
        # A dot line near where buffers tend to end.
        head = _head(f"dot line at {octets}")
        fill = b"f" * (octets - len(head) - 2)
        yield f"dot line at {octets}", head + fill + b"\r\n.\r\n..\r\nend\r\n"


def _shapes() -> Iterator[tuple[str, bytes]]:
    yield "empty body", _head("empty body")
    yield "header alone", b"From: ada@example.com\r\nSubject: header alone\r\n"
    yield "header cut short", b"From: ada@example.com\r\nSubject: header cut short"
    yield "body alone", b"\r\nno header at all\r\n"
    yield "one empty line", b"\r\n"
    yield "empty lines", b"\r\n" * 7
    yield "no octet at all", b""
    yield "one letter", b"a"
    yield "spaces", b"   \r\n\t\r\n"
    yield "no final line end", _head("no final line end") + b"the end"
    yield "many empty lines at the end", _head("empty lines at the end") + b"a" + b"\r\n" * 50
    yield "From line", b"From ada@example.com Mon Jan  6 10:00:00 2025\r\n" + _head("From") + b"x"
    yield "From in body", _head("From in body") + b"From here on\r\n>From there\r\n\r\nFrom x\r\n"
    yield "no colon in header", _head("no colon", b"this is not a header line") + b"x\r\n"
    yield "no Message-ID", b"Subject: no Message-ID\r\n\r\nx\r\n"
    twin = _head("twin") + b"equal in every octet\r\n"
    yield from [("twin", twin), ("twin", twin), ("twin", twin)]
    sibling = _head("sibling")
    yield from [("sibling 1", sibling + b"1\r\n"), ("sibling 2", sibling + b"2\r\n")]


def _line_ends() -> Iterator[tuple[str, bytes]]:
    yield "bare LF throughout", (_head("bare LF") + b"one\r\ntwo\r\n").replace(b"\r\n", b"\n")
    yield "bare LF in body", _head("bare LF in body") + b"one\ntwo\n\nthree\n"
    yield "mixed line ends", _head("mixed line ends") + b"one\ntwo\r\nthree\nfour\r\n\n\r\n"
    yield "bare CR", _head("bare CR") + b"one\rtwo\rthree\r\n\rfour\r\n"
    yield "CR CR LF", _head("CR CR LF") + b"one\r\r\ntwo\r\r\r\n"
    yield "LF CR", _head("LF CR") + b"one\n\rtwo\n\r"
    yield "CR at the end", _head("CR at the end") + b"one\r"
    yield "LF at the end", _head("LF at the end") + b"one\n"
    yield "only LF", b"\n"
    yield "only CR", b"\r"
    yield "bare CR in header", _head("CR in header", b"X-Odd: a\rb") + b"x\r\n"
    yield "bare LF between headers", b"Subject: mixed header\nX-A: 1\r\nX-B: 2\n\nbody\r\n"
    yield "LF dot LF", _head("LF dot LF") + b"before\n.\nDELE 1\nQUIT\n"


def _octets() -> Iterator[tuple[str, bytes]]:
    yield "latin-1", _head("latin-1", b"X-Name: J\xfcrgen M\xfcller") + b"gr\xfc\xdfe\xff\r\n"
    utf8 = "Grüße aus Köln, Ελλάδα, 日本語, 🐌"
    yield "UTF-8 header", _head(utf8) + utf8.encode() + b"\r\n"
    yield "broken UTF-8", _head("broken UTF-8", b"X-Odd: \xc3\x28 \xf0\x9f") + b"\xe2\x82\r\n"
    yield "every octet", _head("every octet") + _every_octet() + b"\r\n"
    yield "NUL octets", _head("NUL octets") + b"a\0b\r\n\0\r\n\0\0\r\n.\0\r\n"
    yield "NUL in header", _head("NUL in header", b"X-Odd: a\0b") + b"x\r\n"
    yield "control characters", _head("control") + bytes(range(1, 10)) + b"\x1b[31m\x1a\x7f\r\n"
    yield "byte order mark", b"\xef\xbb\xbf" + _head("byte order mark") + b"x\r\n"


def _every_octet() -> bytes:
    """All but CR, LF and NUL, which have mails of their own."""
    return bytes(octet for octet in range(1, 256) if octet not in b"\r\n")


def _sizes() -> Iterator[tuple[str, bytes]]:
    long_line = b"0123456789" * 10_000
    yield "line of 100 kB", _head("line of 100 kB") + long_line + b"\r\nx\r\n"
    yield "line of 100 kB, no end", _head("line of 100 kB, no end") + long_line
    yield "line of 100 kB with dot", _head("100 kB with dot") + b"." + long_line + b"\r\n.\r\n"
    yield "long header line", _head("long header line", b"X-Long: " + b"x" * 60_000) + b"x\r\n"
    folds = b"\r\n".join(b"\t<%d@example.com>" % i for i in range(3000))
    yield "long folding", _head("long folding", b"References: <a@b>\r\n" + folds) + b"x\r\n"
    yield "many headers", _head("many headers", *(b"X-%d: y" % i for i in range(2000))) + b"x\r\n"
    yield "short lines", _head("short lines") + b"a\r\n" * 40_000
    yield "one megabyte", _head("one megabyte") + (b"x" * 74 + b"\r\n") * 13_800
    for length in (998, 1000, 2046, 2047, 2048, 2049):
        yield f"line of {length}", _head(f"line of {length}") + b"l" * length + b"\r\nx\r\n"


def _replies() -> Iterator[tuple[str, bytes]]:
    yield "like replies", _head("like replies") + b"+OK\r\n-ERR [AUTH] no\r\n+ \r\n+OK 1 2\r\n"
    yield "reply first", b"+OK 120 octets\r\n" + _head("reply first") + b"x\r\n"
    yield "error first", b"-ERR no such message\r\n" + _head("error first") + b"x\r\n"
    yield "commands", _head("commands") + b"QUIT\r\nDELE 1\r\nRETR 2\r\n"
    listing = b"".join(b"%d %08x\r\n" % (i, i) for i in range(300))
    yield "like a listing", _head("like a listing") + listing


def _random_mails() -> Iterator[tuple[str, bytes]]:
    """Bodies put together at random from the pieces that hurt."""
    luck = random.Random(_SEED)
    pieces = [b"\r\n", b"\n", b"\r", b".", b"..", b"\r\n.", b"\r\n..", b"\r\n.\r\n", b"\n.\n"]
    pieces += [b"text ", b"\xe4", b"From ", b"+OK", b"-ERR", b" ", b"x" * 70 + b"\r\n"]
    for index in range(_RANDOM_MAILS):
        count = int(luck.expovariate(1 / 60)) + 1
        yield f"random {index}", _head(f"random {index}") + b"".join(luck.choices(pieces, k=count))
