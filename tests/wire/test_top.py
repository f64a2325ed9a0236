"""TOP: RFC 1939 §7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.top import TopCutter
from tests.wire.feeding import every_way
from tests.work import lines_run

MAIL = b"A: 1\r\nB: 2\r\n\r\none\r\ntwo\r\nthree\r\n"


def reference_top(mail: bytes, lines: int) -> bytes:
    header, empty, body = mail.partition(b"\r\n\r\n")
    if mail.startswith(b"\r\n"):
        header, empty, body = b"", b"\r\n", mail[2:]
    return header + empty + b"".join(body.splitlines(keepends=True)[:lines])


def top(pieces: list[bytes], lines: int) -> bytes:
    cutter = TopCutter(lines)
    out = b""
    for piece in pieces:
        if cutter.done:
            break
        out += cutter.feed(piece)
    return out


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 10**9])
@pytest.mark.parametrize("mail", [MAIL, b"A: 1\r\nB: 2\r\n", b"\r\nbody\r\n", b"", b"A: 1\r\n\r\n"])
def test_top_gives_the_header_the_empty_line_and_the_first_lines(mail: bytes, lines: int) -> None:
    for pieces in every_way(mail):
        assert top(pieces, lines) == reference_top(mail, lines)


@given(
    st.lists(
        st.sampled_from([b"a", b".", b" ", b"bc"]).map(lambda x: x + b"\r\n") | st.just(b"\r\n")
    ),
    st.integers(0, 6),
)
def test_top_is_the_same_at_any_split(lines_of_mail: list[bytes], lines: int) -> None:
    mail = b"".join(lines_of_mail)
    for pieces in every_way(mail):
        assert top(pieces, lines) == reference_top(mail, lines)


@pytest.mark.parametrize("part", [b"\r\n" * 30_000, b"a\r\n" * 20_000, b"." * 60_000])
@pytest.mark.parametrize("begun", [b"", b"A: b\r\n\r\n"])
@pytest.mark.parametrize("lines", [0, 10_000, 10**9])
def test_no_part_is_gone_through_line_by_line(part: bytes, begun: bytes, lines: int) -> None:
    cutter = TopCutter(lines)
    cutter.feed(begun)
    assert lines_run(lambda: cutter.feed(part)) < 30
