"""Dot-stuffing: RFC 1939 §3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.dots import TERMINATOR, DotDecoder, DotEncoder
from proxy.wire.errors import LocalProtocolError
from tests.wire.feeding import every_way

bodies = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\n", b"\r", b"a", b".\r\n", b"\r\n.\r\n", b"\0"])
).map(b"".join)


def reference_stuff(body: bytes) -> bytes:
    """Octet by octet, straight from the RFC's words."""
    out = bytearray()
    at_line_start = True
    for i, octet in enumerate(body):
        if at_line_start and octet == ord("."):
            out += b"."
        out.append(octet)
        at_line_start = body[max(i - 1, 0) : i + 1] == b"\r\n"
    return bytes(out)


def encode(pieces: list[bytes]) -> bytes:
    encoder = DotEncoder()
    return b"".join(encoder.feed(piece) for piece in pieces)


def decode(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    decoder = DotDecoder()
    out = bytearray()
    rest: bytes | None = None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        data, rest = decoder.feed(piece)
        out += data
    return bytes(out), rest


@given(bodies)
def test_stuffing_agrees_with_the_rfc_at_any_split(body: bytes) -> None:
    for pieces in every_way(body):
        assert encode(pieces) == reference_stuff(body)


@given(bodies, bodies)
def test_what_was_stuffed_comes_back_at_any_split_and_what_follows_is_left(
    body: bytes, after: bytes
) -> None:
    whole = body + b"\r\n" if body else body
    wire = reference_stuff(whole) + TERMINATOR + after
    for pieces in every_way(wire):
        assert decode(pieces) == (whole, after)


@given(bodies)
def test_nothing_but_crlf_dot_crlf_ends_a_body(body: bytes) -> None:
    wire = reference_stuff(body + b"\r\n")
    for pieces in every_way(wire):
        assert decode(pieces)[1] is None


@pytest.mark.parametrize("smuggled", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r.\r\n"])
def test_a_dot_between_other_line_ends_is_part_of_the_mail(smuggled: bytes) -> None:
    # "\r\n.\n" is a line of ".\n…" whose first dot is stuffing.
    body, rest = decode([b"a" + smuggled + b"+OK fake\r\n" + TERMINATOR + b"+OK"])
    assert body.endswith(b"+OK fake\r\n")
    assert rest == b"+OK"


def test_a_body_of_no_octets() -> None:
    for pieces in every_way(TERMINATOR + b"+OK"):
        assert decode(pieces) == (b"", b"+OK")


def test_a_decoder_holds_back_no_more_than_the_terminator_could_need() -> None:
    decoder = DotDecoder()
    given_out = 0
    for _ in range(100):
        given_out += len(decoder.feed(b"x" * 999 + b"\r")[0])
    assert given_out >= 100 * 1000 - 4


def test_a_decoder_is_not_fed_after_the_end() -> None:
    decoder = DotDecoder()
    decoder.feed(TERMINATOR)
    with pytest.raises(LocalProtocolError):
        decoder.feed(b"more")
