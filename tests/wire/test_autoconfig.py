"""Autoconfiguration files: what they say of POP3, and that nothing in one does harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.autoconfig import AutoconfigServer, parse_autoconfig

ADDRESS = "me@example.com"


def file(
    *,
    kind: str = "pop3",
    host: str = "pop.example.com",
    port: str = "995",
    socket: str = "SSL",
    more: str = "",
) -> bytes:
    return (
        f'<clientConfig><emailProvider><incomingServer type="{kind}"><hostname>{host}</hostname>'
        f"<port>{port}</port><socketType>{socket}</socketType>{more}"
        "</incomingServer></emailProvider></clientConfig>"
    ).encode()


def test_a_server_is_read() -> None:
    (server,) = parse_autoconfig(file(), ADDRESS)
    assert server == AutoconfigServer("pop.example.com", 995, "implicit", ADDRESS, oauth=False)


def test_placeholders_stand_for_parts_of_the_address() -> None:
    more = "<username>%EMAILLOCALPART%/%EMAILDOMAIN%</username>"
    (server,) = parse_autoconfig(file(host="pop.%EMAILDOMAIN%", more=more), ADDRESS)
    assert (server.host, server.username) == ("pop.example.com", "me/example.com")


def test_a_server_that_takes_tokens_alone_is_marked() -> None:
    ways = "<authentication>{}</authentication>"
    assert parse_autoconfig(file(more=ways.format("OAuth2")), ADDRESS)[0].oauth
    both = ways.format("OAuth2") + ways.format("password-cleartext")
    assert not parse_autoconfig(file(more=both), ADDRESS)[0].oauth


@pytest.mark.parametrize(
    "document",
    [
        file(kind="imap"),
        file(socket="plain"),
        file(socket=""),
        file(port="0"),
        file(port="65536"),
        file(port="²"),
        file(port="-1"),
        file(host="pop.example.com/evil"),
        file(host='pop"}\nhost'),
        file(host=""),
        b"",
        b"<a>",
        b"\0",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + file(),
    ],
)
def test_a_server_without_tls_or_a_file_that_is_none_gives_nothing(document: bytes) -> None:
    assert parse_autoconfig(document, ADDRESS) == []


@given(st.binary(max_size=300), st.text(max_size=20))
def test_no_octets_do_harm(junk: bytes, address: str) -> None:
    parse_autoconfig(junk, address)
    parse_autoconfig(file(more=junk.decode("latin-1")), address)
