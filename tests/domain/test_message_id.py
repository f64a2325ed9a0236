"""Message-ID out of a header, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.message_id import message_id
from tests.corpus_headers import KINDS, header
from tests.work import lines_run


@pytest.mark.parametrize(
    "field",
    [
        b"Message-ID: <a.b@c>\r\n",
        b"message-id:<a.b@c>\r\n",
        b"Message-Id :\r\n\t<a.b@c>\r\n",
        b"Message-ID: (comment) <a.b@c> <d@e>\r\n",
        b"Message-ID: <a.b@c>\r\nMessage-ID: <d@e>\r\n",
    ],
)
def test_it_is_found(field: bytes) -> None:
    assert message_id(b"From: a\r\n" + field + b"To: b\r\n") == "<a.b@c>"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"From: <a@b>\r\n",
        b"X-Message-ID: <a@b>\r\n",
        b"Subject: x\r\n Message-ID: <a@b>\r\n",
        b"Message-ID: none\r\n",
        b"Message-ID: <>\r\n",
        b"Message-ID: <a b@c>\r\n",
        b"Message-ID:\r\nTo: <a@b>\r\n",
        b"Message-ID: <" + b"a" * 1000 + b"@b>\r\n",
    ],
)
def test_what_is_none_is_none(header: bytes) -> None:
    assert message_id(header) == ""


@given(st.binary(max_size=300), st.text("abc.-_@", min_size=1, max_size=40))
def test_it_is_one_short_word_whatever_stands_around_it(noise: bytes, name: str) -> None:
    found = message_id(noise)
    assert "\n" not in found
    assert found == "" or (found[0], found[-1]) == ("<", ">")
    assert message_id(f"Message-ID: <{name}>\r\n".encode() + noise) == f"<{name}>"


@pytest.mark.parametrize("kind", KINDS)
def test_no_header_is_gone_through_line_by_line(kind: str) -> None:
    assert lines_run(lambda: message_id(header(kind, 256 * 1024))) < 20
