"""Lines and line ends out of a stream."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.lines import TOO_LONG, CrlfNormaliser, LineBuffer, TooLong
from tests.wire.feeding import every_way


def lines_of(pieces: list[bytes], limit: int) -> list[bytes | TooLong]:
    buffer = LineBuffer()
    lines: list[bytes | TooLong] = []
    for piece in pieces:
        buffer.feed(piece)
        while (line := buffer.next_line(limit)) is not None:
            lines.append(line)
    return lines


def test_lines_are_the_same_however_they_are_fed() -> None:
    data = b"USER a\r\nPASS b c\r\n\r\nbare\nNOOP\r\nunfinished"
    for pieces in every_way(data):
        assert lines_of(pieces, 100) == [b"USER a", b"PASS b c", b"", b"bare", b"NOOP"]


def test_a_line_over_the_limit_is_given_out_as_too_long_and_the_next_one_is_whole() -> None:
    data = b"x" * 50 + b"\r\nNOOP\r\n"
    for pieces in every_way(data):
        assert lines_of(pieces, 20) == [TOO_LONG, b"NOOP"]


def test_an_endless_line_takes_no_memory() -> None:
    buffer = LineBuffer()
    for _ in range(1000):
        buffer.feed(b"x" * 1000)
        assert buffer.next_line(100) is None
        assert len(buffer) <= 1000
    buffer.feed(b"\nQUIT\r\n")
    assert buffer.next_line(100) is TOO_LONG
    assert buffer.next_line(100) == b"QUIT"


def test_take_all_returns_what_no_line_has_used() -> None:
    buffer = LineBuffer()
    buffer.feed(b"+OK\r\nrest of")
    assert buffer.next_line(100) == b"+OK"
    assert buffer.take_all() == b"rest of"
    assert len(buffer) == 0


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"."])).map(b"".join))
def test_normalising_agrees_with_one_substitution_at_any_split(data: bytes) -> None:
    expected = re.sub(rb"(?<!\r)\n", b"\r\n", data)
    for pieces in every_way(data):
        normaliser = CrlfNormaliser()
        assert b"".join(normaliser.feed(piece) for piece in pieces) == expected
