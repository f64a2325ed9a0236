"""The header of the copies of a mail that was sent."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sent_copy import MANY, MARK, copy_header
from tests.corpus_headers import KINDS, header
from tests.work import lines_run


def copy(given: bytes, *recipients: str, keep_bcc: bool = True) -> bytes:
    made = copy_header(given, device="", recipients=recipients, keep_bcc=keep_bcc)
    assert made.startswith(MARK)
    return made.removeprefix(MARK)


@pytest.mark.parametrize(
    "field",
    [
        b"To: bob@example.org\r\n",
        b"to : Bob <BOB@example.org>, a@b.org\r\n",
        b'Cc: "bob@example.org" <bob@example.org>\r\n',
        b"Bcc:\r\n a@b.org,\r\n\tbob@example.org\r\n",
        b"Resent-To: friends:bob@example.org;\r\n",
        b"Resent-Bcc: (x)bob@example.org(y)\r\n",
    ],
)
def test_who_is_named_is_not_told_again(field: bytes) -> None:
    assert copy(b"Subject: x\r\n" + field, "bob@example.org") == b"Subject: x\r\n" + field


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"To: bob@example.org.uk, jim-bob@example.org, bob@example.orgs\r\n",
        b"Subject: bob@example.org\r\n",
        b"X-To: bob@example.org\r\n",
        b"Subject: x\r\n To: bob@example.org\r\n",
    ],
)
def test_who_is_not_named_is_told(field: bytes) -> None:
    assert copy(field, "bob@example.org") == b"Bcc: <bob@example.org>\r\n" + field


@pytest.mark.parametrize("address", ['"a b"@example.org', "a@[192.0.2.1]", "a@[IPv6:::1]"])
def test_addresses_of_several_words_are_found(address: str) -> None:
    field = f"To: x@y.org, <{address}>\r\n".encode()
    assert copy(field, address) == field
    assert copy(b"To: x@y.org\r\n", address) == f"Bcc: <{address}>\r\nTo: x@y.org\r\n".encode()


BLIND = b"Bcc: b@x.org\r\nTo: a@x.org\r\nRESENT-BCC :\r\n b@x.org\r\nX: y\r\n"


def test_blind_copies_leave_the_header_where_they_are_not_to_be_told() -> None:
    assert copy(BLIND, "b@x.org", "c@x.org", keep_bcc=False) == b"To: a@x.org\r\nX: y\r\n"


FRAGMENTS = [
    *(b"To", b"Cc", b"Bcc:", b"resent-bcc: ", b"To: ", b":", b" ", b"\t", b"\r\n", b"a@b.org"),
    *(b"<", b">", b",", b"X-Y: z\r\n", b"bcc: c@d.org\r\n", b"\r\n "),
]
FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join))
def test_all_else_stays_as_it_is(given: bytes) -> None:
    fields, at = [], 0
    while found := FIELD.match(given, at):
        fields.append(found[0])
        at = found.end()
    shown = [f for f in fields if not re.match(rb"(?:resent-)?bcc[ \t]*:", f, re.I)]
    rest = given[at:]
    for kept, keep_bcc in ((fields, True), (shown, False)):
        begins = b"\r\n" if rest and not kept and not rest.startswith(b"\r\n") else b""
        assert copy(given, keep_bcc=keep_bcc) == b"".join(kept) + begins + rest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_bcc", [True, False])
def test_neither_many_recipients_nor_a_long_header_take_long(kind: str, *, keep_bcc: bool) -> None:
    """Once for each word and each recipient, never for each of both."""
    given = header(kind, 256 * 1024)
    recipients = [f"nobody{n}@c.org" for n in range(1000)]
    assert lines_run(lambda: copy(given, *recipients, keep_bcc=keep_bcc)) < 5 * MANY


def test_who_is_named_late_in_a_very_long_field_may_be_told_twice() -> None:
    given = b"To: " + b"a@b.org, " * MANY + b"bob@example.org\r\n"
    assert copy(given, "bob@example.org") == b"Bcc: <bob@example.org>\r\n" + given
