"""The PROXY protocol's header: what the specification shows, what it forbids, at any split."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.proxy_header import (
    BLOCK_LIMIT,
    LINE_LIMIT,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderReader,
)
from tests.wire.feeding import every_way

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")

IPV4 = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + (56324).to_bytes(2) + (110).to_bytes(2)
IPV6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + b"\xdc\x04\0\x6e"
MAPPED = IPv6Address("::ffff:192.0.2.7").packed * 2 + b"\xdc\x04\0\x6e"
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")


def block(command: int, kind: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + bytes([command, kind]) + size.to_bytes(2) + payload


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(value) if length is None else length).to_bytes(2) + value


def ssl(client: int, more: bytes = b"") -> bytes:
    return tlv(0x20, bytes([client]) + b"\0\0\0\0" + more)


TLS13 = ssl(0x01, tlv(0x21, b"TLSv1.3") + tlv(0x23, b"TLS_AES_256_GCM_SHA384"))

VALID = {
    # The example of §2.1.
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n": ProxyHeader("192.168.0.1"),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ProxyHeader("255.255.255.255"),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ProxyHeader("0.0.0.0"),
    b"PROXY TCP6 2001:DB8:0:0::1 ::1 56324 443\r\n": ProxyHeader("2001:db8::1"),
    b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2): ProxyHeader(
        ":".join(["ffff"] * 8)
    ),
    # What a listener for both families says of an IPv4 client.
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 56324 110\r\n": ProxyHeader("192.0.2.7"),
    b"PROXY TCP6 ::ffff:c000:207 ::1 56324 110\r\n": ProxyHeader("192.0.2.7"),
    b"PROXY UNKNOWN\r\n": ProxyHeader(None),
    b"PROXY UNKNOWN ffff:f::ffff ffff:f::ffff 65535 65535\r\n": ProxyHeader(None),
    b"PROXY UNKNOWN  any\r thing\n \xff\0 \r\r\n": ProxyHeader(None),
    b"PROXY UNKNOWN ".ljust(LINE_LIMIT - 2, b"x") + b"\r\n": ProxyHeader(None),
    # §2.2.
    block(0x20, 0x00, b""): ProxyHeader(None),
    block(0x20, 0x11, IPV4): ProxyHeader(None),
    block(0x20, 0xFF, b"\1\2" + TLS13): ProxyHeader(None),
    block(0x21, 0x11, IPV4): ProxyHeader("192.168.0.1"),
    block(0x21, 0x21, IPV6): ProxyHeader("2001:db8::1"),
    block(0x21, 0x21, MAPPED): ProxyHeader("192.0.2.7"),
    block(0x21, 0x31, UNIX): ProxyHeader(None),
    block(0x21, 0x31, UNIX + TLS13): ProxyHeader(None, tls=True),
    block(0x21, 0x00, b""): ProxyHeader(None),
    block(0x21, 0x00, b"anything"): ProxyHeader(None),
    block(0x21, 0x10, b""): ProxyHeader(None),
    block(0x21, 0x01, b"\1"): ProxyHeader(None),
    block(0x21, 0x11, IPV4 + TLS13): ProxyHeader("192.168.0.1", tls=True),
    block(0x21, 0x21, IPV6 + tlv(0x04, b"") + TLS13 + tlv(0xEA, b"x")): ProxyHeader(
        "2001:db8::1", tls=True
    ),
    block(0x21, 0x11, IPV4 + ssl(0x07)): ProxyHeader("192.168.0.1", tls=True),
    block(0x21, 0x11, IPV4 + ssl(0x06)): ProxyHeader("192.168.0.1"),
    block(0x21, 0x11, IPV4 + tlv(0x03, b"\1\2\3\4")): ProxyHeader("192.168.0.1"),
    block(0x21, 0x11, IPV4 + tlv(0x04, bytes(BLOCK_LIMIT - 15))): ProxyHeader("192.168.0.1"),
}
FOLLOWING = [b"", b"\r\n", b"USER a\r\nPASS b\r\n", b"PROXY UNKNOWN\r\n", bytes(100_000)]


def read(pieces: list[bytes]) -> tuple[ProxyHeader, bytes] | None:
    """The header, and all octets behind it, those in later pieces as well."""
    reader = ProxyHeaderReader()
    for number, piece in enumerate(pieces, 1):
        result = reader.feed(piece)
        if result is not None:
            header, rest = result
            return header, rest + b"".join(pieces[number:])
    return None


@pytest.mark.parametrize("octets", VALID)
def test_a_valid_header_is_read_however_it_comes(octets: bytes) -> None:
    for following in FOLLOWING:
        for pieces in every_way(octets + following[:50]):
            assert read(pieces) == (VALID[octets], following[:50])
        assert read([octets + following]) == (VALID[octets], following)


@pytest.mark.parametrize("octets", VALID)
def test_a_header_cut_short_is_waited_for(octets: bytes) -> None:
    for end in range(len(octets)):
        assert ProxyHeaderReader().feed(octets[:end]) is None


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r ",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4\t192.168.0.1 192.168.0.11 56324 443\r\n",
        b" PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"proxy tcp4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY tcp4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP44 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\rx\r\n",
        b"PROXY TCP4 192.168.00.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.256 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1.2 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0 56324 443\r\n",
        b"PROXY TCP4 localhost 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP6 ::1::2 ::1 56324 443\r\n",
        b"PROXY TCP6 1:2:3:4:5:6:7 ::1 56324 443\r\n",
        b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 56324 443\r\n",
        b"PROXY TCP6 12345::1 ::1 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        b"PROXY TCP6 [::1] ::1 56324 443\r\n",
        b"PROXY TCP6 ::1/64 ::1 56324 443\r\n",
        b"PROXY TCP6 ::ffff:192.0.2.07 ::1 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 00 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 -1\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 4 3\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 \xd9\xa3\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 \xff 443\r\n",
        b"PROXY UNKNOWN ".ljust(LINE_LIMIT - 1, b"x") + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"USER alice\r\n",
        b"\x16\x03\x01",
        b"\0",
    ],
)
def test_a_line_that_is_no_header_is_refused(line: bytes) -> None:
    for pieces in every_way(line):
        with pytest.raises(ProxyHeaderError):
            read(pieces)


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n\r\n\0\r\nQUIT\r",
        SIGNATURE.replace(b"\0", b"\1"),
        # Version, command.
        block(0x11, 0x11, IPV4),
        block(0x31, 0x11, IPV4),
        block(0x22, 0x11, IPV4),
        # Family, transport.
        block(0x21, 0x12, IPV4),
        block(0x21, 0x22, IPV6),
        block(0x21, 0x32, UNIX),
        block(0x21, 0x02, b""),
        block(0x21, 0x13, IPV4),
        block(0x21, 0x41, IPV4),
        block(0x21, 0xF0, b""),
        # Length.
        block(0x21, 0x11, IPV4[:-1]),
        block(0x21, 0x21, IPV6[:-1]),
        block(0x21, 0x31, UNIX[:-1]),
        block(0x21, 0x11, IPV4, length=BLOCK_LIMIT + 1),
        block(0x20, 0x00, b"", length=BLOCK_LIMIT + 1),
        block(0x21, 0x00, b"", length=0xFFFF),
        # TLVs.
        block(0x21, 0x11, IPV4 + b"\x04"),
        block(0x21, 0x11, IPV4 + b"\x04\0"),
        block(0x21, 0x11, IPV4 + tlv(0x04, b"abc", length=4)),
        block(0x21, 0x31, UNIX + tlv(0x04, b"abc", length=0xFFFF)),
        block(0x21, 0x11, IPV4 + tlv(0x04, b"abc", length=2)),
        block(0x21, 0x11, IPV4 + tlv(0x20, b"\1\0\0\0")),
        block(0x21, 0x11, IPV4 + ssl(0x01, b"\x21\0")),
        block(0x21, 0x11, IPV4 + ssl(0x01, tlv(0x21, b"TLSv1.3", length=8)) + tlv(0x04, b"abc")),
        block(0x21, 0x11, IPV4 + ssl(0x00) + ssl(0x01)),
    ],
)
def test_a_block_that_is_no_header_is_refused(octets: bytes) -> None:
    for pieces in every_way(octets):
        with pytest.raises(ProxyHeaderError):
            read(pieces)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"", b"U"),
        (b"PROXY", b"\r"),
        (b"PROXY TCP", b"5"),
        (b"PROXY U", b"D"),
        (b"PROXY TCP4 192.168.0.25", b"6"),
        (b"PROXY TCP4 192.168.0", b" "),
        (b"PROXY TCP4 192.168.0.1", b"."),
        (b"PROXY TCP4 0", b"1"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 6553", b"6"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0", b"0"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0", b"\n"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 ", b"\r"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r", b"\r"),
        (b"PROXY TCP6 1:2:3:4:5:6:7:8", b":"),
        (b"PROXY TCP6 ::ffff:192.0.2", b":"),
        (b"PROXY TCP6 ::", b":"),
        (b"PROXY UNKNOWN", b"X"),
        (b"PROXY UNKNOWN ".ljust(LINE_LIMIT - 2, b"x"), b"x"),
        (SIGNATURE[:-1], b"\r"),
        (SIGNATURE, b"\x22"),
        (SIGNATURE + b"\x21", b"\x12"),
        (SIGNATURE + b"\x21\x11", b"\x11"),
        (SIGNATURE + b"\x21\x11\0", b"\x0b"),
        (block(0x21, 0x11, IPV4 + b"\x04\0", length=18), b"\x04"),
        (block(0x21, 0x11, IPV4 + b"\x04", length=18), b"\1"),
    ],
)
def test_the_octet_that_spoils_a_header_is_refused_at_once(good: bytes, bad: bytes) -> None:
    reader = ProxyHeaderReader()
    assert reader.feed(good) is None
    with pytest.raises(ProxyHeaderError):
        reader.feed(bad)


def test_there_is_one_header_and_nothing_after_a_refused_one() -> None:
    for octets in (b"PROXY UNKNOWN\r\n", b"nonsense"):
        reader = ProxyHeaderReader()
        with suppress(ProxyHeaderError):
            reader.feed(octets)
        for following in (b"", b"PROXY UNKNOWN\r\n"):
            with pytest.raises(ProxyHeaderError):
                reader.feed(following)


# --- properties ---------------------------------------------------------------------------------

ports = st.integers(0, 0xFFFF)
addresses = st.one_of(
    st.tuples(*[st.ip_addresses(v=4)] * 2),
    st.tuples(*[st.ip_addresses(v=6)] * 2),
    st.tuples(*[st.ip_addresses(v=4).map(lambda a: IPv6Address(f"::ffff:{a}"))] * 2),
)
other_tlvs = st.builds(
    tlv, st.integers(0, 255).filter(lambda kind: kind != 0x20), st.binary(max_size=40)
)
ssl_tlvs = st.builds(ssl, st.integers(0, 255), st.lists(other_tlvs, max_size=3).map(b"".join))


def canonical(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped if mapped is not None else address)


@st.composite
def lines(draw: st.DrawFn) -> tuple[bytes, ProxyHeader]:
    source, destination = draw(addresses)
    spelling = draw(st.sampled_from(["compressed", "exploded"]))
    line = (
        f"PROXY TCP{source.version} {getattr(source, spelling)} {getattr(destination, spelling)} "
        f"{draw(ports)} {draw(ports)}\r\n"
    )
    return line.encode(), ProxyHeader(canonical(source))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, ProxyHeader]:
    source, destination = draw(addresses)
    kind = 0x11 if source.version == 4 else 0x21
    tlvs = draw(st.lists(other_tlvs, max_size=4))
    own = draw(st.none() | ssl_tlvs)
    if own is not None:
        tlvs.insert(draw(st.integers(0, len(tlvs))), own)
    numbers = draw(ports).to_bytes(2) + draw(ports).to_bytes(2)
    payload = source.packed + destination.packed + numbers + b"".join(tlvs)
    tls = own is not None and bool(own[3] & 1)
    return block(0x21, kind, payload), ProxyHeader(canonical(source), tls)


@given(lines() | blocks(), st.binary(max_size=20), st.integers())
def test_headers_come_back_as_they_were_meant(
    made: tuple[bytes, ProxyHeader], following: bytes, seed: int
) -> None:
    octets, header = made
    for pieces in every_way(octets + following, seed):
        assert read(pieces) == (header, following)
    for end in range(len(octets)):
        assert ProxyHeaderReader().feed(octets[:end]) is None


def outcome(pieces: list[bytes]) -> tuple[ProxyHeader, bytes] | str | None:
    try:
        return read(pieces)
    except ProxyHeaderError:
        return "refused"


words = st.sampled_from(
    b"PROXY |TCP4|TCP6|UNKNOWN| |1.2.3.4 |::1 |::|:|1|.|0 |65535|\r|\n|\r\n|%|\xff|\0".split(b"|")
)
block_parts = st.sampled_from([IPV4, IPV6, UNIX, TLS13, ssl(1), b"\x20", b"\0\1", b"\0"])
octets_of_any_kind = st.one_of(
    st.binary(max_size=300),
    st.lists(words, max_size=20).map(lambda parts: b"PROXY " + b"".join(parts)),
    st.builds(
        block,
        st.sampled_from([0x20, 0x21]) | st.integers(0, 255),
        st.sampled_from([0x00, 0x11, 0x21, 0x31]) | st.integers(0, 255),
        st.lists(block_parts | st.binary(max_size=9), max_size=6).map(b"".join),
        st.none() | st.integers(0, 300),
    ),
)


@given(octets_of_any_kind, st.integers())
def test_anything_gives_the_same_outcome_however_it_comes(octets: bytes, seed: int) -> None:
    outcomes = [outcome(pieces) for pieces in every_way(octets, seed)]
    assert all(found == outcomes[0] for found in outcomes)
