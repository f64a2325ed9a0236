"""What a TLS client offers, read from the messages of real clients, whole or in pieces."""

from __future__ import annotations

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters.client_hello import LIMIT, ClientHello

OFFERS = [[], ["pop3"], ["http/1.1"], ["h2", "http/1.1"], ["imap", "pop3"], ["x" * 255] * 9]


def sent_by_a_client(offer: list[str], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.create_default_context()
    context.maximum_version = version
    if offer:
        context.set_alpn_protocols(offer)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="mail.example.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLOS = [sent_by_a_client(offer) for offer in OFFERS]


def fragmented(octets: bytes, length: int) -> bytes:
    """The same message in records of so many octets."""
    head, message = octets[:3], octets[5:]
    parts = [message[at : at + length] for at in range(0, len(message), length)]
    return b"".join(head + len(part).to_bytes(2) + part for part in parts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("offer", OFFERS)
def test_what_a_client_offers_is_read(offer: list[str], version: ssl.TLSVersion) -> None:
    hello = ClientHello()
    assert hello.feed(sent_by_a_client(offer, version))
    assert hello.protocols == [name.encode() for name in offer]


@given(
    st.sampled_from(range(len(OFFERS))),
    st.integers(1, 600),
    st.lists(st.integers(0, 5000), max_size=8),
    st.binary(max_size=20),
)
def test_it_is_whole_with_its_last_octet_however_it_comes(
    which: int, record: int, cuts: list[int], behind: bytes
) -> None:
    octets = fragmented(HELLOS[which], record)
    hello = ClientHello()
    places = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets) - 1]
    assert not any(hello.feed(octets[start:end]) for start, end in pairwise(places))
    assert hello.feed(octets[-1:] + behind)
    assert hello.octets == octets + behind
    assert hello.protocols == [name.encode() for name in OFFERS[which]]


@given(st.data())
def test_octets_of_any_kind_do_no_harm(data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(HELLOS)))
    for _ in range(data.draw(st.integers(0, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    octets = octets[: data.draw(st.integers(0, len(octets)))]
    hello = ClientHello()
    for at in range(0, len(octets), 100):
        hello.feed(bytes(octets[at : at + 100]))
    assert hello.octets == octets
    assert all(isinstance(name, bytes) for name in hello.protocols)


@given(st.binary(max_size=300))
def test_what_is_no_handshake_is_left_to_openssl_at_once(octets: bytes) -> None:
    hello = ClientHello()
    whole = hello.feed(octets)
    if octets and octets[0] != 22:
        assert whole
        assert hello.protocols == []


@pytest.mark.parametrize("record", [b"\x16\x03\x01\x00\x01\x01", b"\x16\x03\x01\x00\x00"])
def test_it_is_given_up_when_it_does_not_end(record: bytes) -> None:
    hello = ClientHello()
    head = b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"

    def feed_all() -> None:
        for piece in [head, *[record] * LIMIT]:
            assert not hello.feed(piece)

    with pytest.raises(ConnectionAbortedError):
        feed_all()
    assert len(hello.octets) <= LIMIT + len(record)
