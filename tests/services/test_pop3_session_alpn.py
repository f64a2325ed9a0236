"""Protocols that TLS clients offer (ALPN, RFC 7301), with OpenSSL's own client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.domain.facts import SmtpSessionEnded
from tests.certificates import Certificates
from tests.needs import need
from tests.services.test_pop3_session_tls import TIMEOUT, Server, certificates, server
from tests.smtp_house import smtp_house

__all__ = ["certificates", "server"]

OTHERS = ["http/1.1", "h2,http/1.1", "imap", "POP3", "pop3s,smtps"]


async def s_client(port: int, ca_file: Path, *options: str) -> str:
    """What it prints; it says QUIT once it is connected."""
    need("openssl")
    command = ["openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", str(ca_file)]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "-ign_eof", "-crlf", *options],
        input="QUIT\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("stls", [False, True])
@pytest.mark.parametrize("offered", [None, "pop3", "http/1.1,pop3"])
async def test_pop3_is_spoken_with_who_offers_it_or_nothing(
    server: Server, offered: str | None, *, stls: bool
) -> None:
    """RFC 7301 §3.2."""
    options = [*(("-starttls", "pop3") if stls else ()), *(("-alpn", offered) if offered else ())]
    said = await s_client(server.port if stls else server.tls_port, server.ca_file, *options)
    assert "+OK bye" in said
    assert ("ALPN protocol: pop3" in said) == (offered is not None)
    assert (await server.facts.ended()).ended == "quit"


@pytest.mark.parametrize("stls", [False, True])
@pytest.mark.parametrize("offered", [*OTHERS, "smtp"])
async def test_who_offers_others_alone_is_refused_by_pop3(
    server: Server, offered: str, *, stls: bool
) -> None:
    """RFC 7301 §3.2."""
    options = [*(("-starttls", "pop3") if stls else ()), "-alpn", offered]
    said = await s_client(server.port if stls else server.tls_port, server.ca_file, *options)
    assert "no application protocol" in said
    assert "+OK bye" not in said
    assert (await server.facts.ended()).ended == "tls_error"
    assert len(server.sessions) == 0


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize(
    ("offered", "taken"), [("", True), ("smtp", True), ("http/1.1", False), ("pop3", False)]
)
async def test_smtp_is_spoken_with_who_offers_it_or_nothing(
    tmp_path: Path, certificates: Certificates, offered: str, *, taken: bool, starttls: bool
) -> None:
    async with smtp_house(tmp_path, certificates=certificates) as house:
        options = [
            *(("-starttls", "smtp") if starttls else ()),
            *(("-alpn", offered) if offered else ()),
        ]
        port = house.port if starttls else house.tls_port
        said = await s_client(port, certificates.ca_file, *options)
        assert ("221 2.0.0 bye" in said) == taken
        assert ("ALPN protocol: smtp" in said) == (taken and offered == "smtp")
        assert ("no application protocol" in said) != taken
        ended = (await house.facts.first(SmtpSessionEnded)).ended
        assert ended == ("quit" if taken else "tls_error")


@pytest.mark.parametrize(("offer", "taken"), [("pop3", True), ("http/1.1", False)])
async def test_a_handshake_may_come_octet_by_octet(
    server: Server, offer: str, *, taken: bool
) -> None:
    context = server.context
    context.set_alpn_protocols([offer])

    def connect() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    return client.read(1000)
                except ssl.SSLWantReadError:
                    for octet in outgoing.read():
                        raw.sendall(bytes([octet]))
                    incoming.write(raw.recv(65536))

    if taken:
        assert (await asyncio.to_thread(connect)).startswith(b"+OK")
    else:
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            await asyncio.to_thread(connect)


def endless(raw: socket.socket) -> None:
    raw.sendall(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
    with suppress(ConnectionError):
        while True:
            raw.sendall(b"\x16\x03\x01\x40\x00" + bytes(0x4000))


def half(raw: socket.socket) -> None:
    raw.sendall(b"\x16\x03")
    raw.shutdown(socket.SHUT_WR)
    assert raw.recv(100) == b""


@pytest.mark.parametrize("story", [endless, half])
async def test_a_handshake_that_never_begins_in_earnest_is_given_up(
    server: Server, story: Callable[[socket.socket], None]
) -> None:
    def connect() -> None:
        with socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw:
            story(raw)

    await asyncio.to_thread(connect)
    # The first octets may come in one before anybody asks whether they are a handshake.
    assert (await server.facts.ended()).ended in ("tls_error", "login_octets")
    assert len(server.sessions) == 0
