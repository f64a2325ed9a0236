"""What a header tells about which message it is, and how old."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.fingerprint import HEADER_LIMIT, Fingerprint, header_of
from tests.corpus_headers import KINDS, header
from tests.work import lines_run

MAIL = (
    b"Received: from a by b; Tue, 03 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@x>\r\nSubject: s\r\n\r\nbody\r\n"
)
TIME = 1793700000.0


def header_digest(octets: bytes) -> bytes | None:
    return Fingerprint.of(octets).header_digest


def content_digest(octets: bytes) -> bytes | None:
    return Fingerprint.of(octets).content_digest


def test_top_and_retr_of_the_same_message_have_the_same_digest() -> None:
    top = MAIL.partition(b"\r\n\r\n")[0]
    assert header_digest(MAIL) is not None
    assert header_digest(MAIL) == header_digest(top + b"\r\n\r\n") == header_digest(top + b"\r\n")


def test_fields_that_servers_change_do_not_count() -> None:
    stamped = MAIL.replace(
        b"Subject:",
        b"Status: RO\r\nX-UIDL: abc\r\n folded\r\nX-IMAPbase: 1 2\r\nX-UID: 1\r\nSubject:",
    )
    assert header_digest(stamped) == header_digest(MAIL)


def test_any_other_change_counts() -> None:
    assert header_digest(MAIL.replace(b"Subject: s", b"Subject: t")) != header_digest(MAIL)


@pytest.mark.parametrize("mail", [b"", b"\r\nbody", b"Subject: s\r\n\r\n", b"no header at all\r\n"])
def test_a_header_that_many_mails_may_share_identifies_nothing(mail: bytes) -> None:
    assert header_digest(mail) is None


def test_an_identifying_field_in_the_body_does_not_count() -> None:
    assert header_digest(b"Subject: s\r\n\r\nMessage-ID: <1@x>\r\n") is None


def test_the_header_ends_at_the_first_empty_line() -> None:
    assert header_of(b"A: 1\r\n\r\nB: 2\r\n\r\n") == b"A: 1\r\n"
    assert header_of(b"\r\nA: 1\r\n\r\n") == b""
    assert header_of(b"A: 1\r\n") == b"A: 1\r\n"


@pytest.mark.parametrize(
    ("mail", "expected"),
    [
        (MAIL, TIME),
        (b"Date: Tue, 03 Nov 2026 11:00:00 +0100\r\n\r\n", TIME),
        (b"Date: Mon, 01 Jan 2001 00:00:00 +0000\r\n" + MAIL, TIME),
        (b"Received: by b;\r\n\tTue, 03 Nov 2026 10:00:00 +0000\r\n\r\n", TIME),
        (b"Received: nonsense\r\nDate: Tue, 03 Nov 2026 10:00:00 +0000\r\n\r\n", TIME),
        (b"Date: nonsense\r\n\r\n", None),
        (b"\r\nDate: Tue, 03 Nov 2026 10:00:00 +0000\r\n", None),
        (b"", None),
        (b"Date: \xff\xff\r\n\r\n", None),
        (b"Date: Tue, 99 Nov 99999 10:00:00 +9999\r\n\r\n", None),
    ],
)
def test_arrival_is_the_topmost_received_then_the_date(mail: bytes, expected: float | None) -> None:
    assert Fingerprint.of(mail).arrival == expected


def test_fields_added_by_servers_and_line_ends_at_the_end_do_not_change_the_content() -> None:
    moved = b"Received: by c\r\nX-Moved: 1\r\n" + MAIL + b"\r\n"
    assert content_digest(moved) == content_digest(MAIL) is not None


@pytest.mark.parametrize(
    "other",
    [
        MAIL.replace(b"body", b"bode"),
        MAIL.replace(b"Subject: s", b"Subject: t"),
        MAIL.replace(b"<1@x>", b"<2@x>"),
        MAIL + b"more\r\n",
    ],
)
def test_another_body_or_origin_is_another_content(other: bytes) -> None:
    assert content_digest(other) != content_digest(MAIL)


@pytest.mark.parametrize(
    "mail", [b"", b"\r\nbody", b"Subject: s\r\n\r\nbody\r\n", b"X: " + b"x" * HEADER_LIMIT * 2]
)
def test_a_header_that_tells_nothing_of_the_origin_makes_no_content(mail: bytes) -> None:
    assert content_digest(mail) is None


@given(st.binary(max_size=40), st.lists(st.integers(0, 120), max_size=6))
def test_a_fingerprint_is_the_same_however_the_octets_come(body: bytes, cuts: list[int]) -> None:
    mail = MAIL + body
    pieces = Fingerprint()
    for start, end in pairwise([0, *sorted(cuts), len(mail)]):
        pieces.feed(mail[start:end])
    assert pieces.header_digest == header_digest(mail)
    assert pieces.content_digest == content_digest(mail)
    assert pieces.arrival == TIME


def test_digests_are_those_that_stores_hold_already() -> None:
    mail = (
        b"Status: RO\r\nReceived: from a by b;\r\n Tue, 03 Nov 2026 10:00:00 +0000\r\n"
        b"X-UID: 7\r\n folded\r\nMessage-ID: <1@x>\r\nDate: Tue, 03 Nov 2026 10:00:00 +0000\r\n"
        b"From: a\r\nsubject:  s\r\n\tt\r\nX-Keywords: \r\n\r\nbody\r\n"
    )
    found, content = header_digest(mail), content_digest(mail)
    assert found is not None
    assert found.hex() == "368e002d046ca91ea05287b8bf481463e0350bc9f236c82a4ef6fdc496627b0b"
    assert content is not None
    assert content.hex() == "2bd29e6359f37d3d7f9b5b7ecb0d0fb114a0470b01996f7673863cce26c5d881"


VOLATILE = re.compile(
    rb"^(?:Status|X-Status|X-UIDL|X-UID|X-IMAP|X-IMAPbase|X-Keywords):[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.I | re.M,
)
FRAGMENTS = [
    b"Status:",
    b"x-uid: 1",
    b"X-Imapbase:",
    b"Received: ",
    b"message-id:",
    b"Message-ID :",
    b"Subject: s",
    b" ",
    b":",
    b"X-UIDLX: 2",
    b"\r\n",
    b"\n",
    b"\r\n\t",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join))
def test_the_digest_is_that_of_the_header_without_the_fields_of_servers(mail: bytes) -> None:
    whole = header_of(mail)
    tells = re.search(rb"^(?:Message-ID|Received):[^\n]*\n", whole, re.I | re.M)
    expected = hashlib.sha256(VOLATILE.sub(b"", whole).rstrip(b"\r\n")).digest()
    assert header_digest(mail) == (expected if tells else None)


@pytest.mark.parametrize("kind", KINDS)
def test_no_header_takes_long(kind: str) -> None:
    """Whoever can send mail chooses it, and everybody waits meanwhile."""
    mail = header(kind, HEADER_LIMIT - 100) + b"\r\nbody\r\n"

    def asked() -> tuple[object, ...]:
        found = Fingerprint.of(mail)
        return found.header_digest, found.was_received, found.arrival, found.content_digest

    assert lines_run(asked) < 30_000
