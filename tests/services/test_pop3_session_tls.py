"""Device sessions with TLS, on real sockets."""

from __future__ import annotations

import asyncio
import poplib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest

from proxy.adapters.certificate import server_context
from proxy.adapters.net import SocketNetwork
from proxy.domain.policy import SessionPolicy
from proxy.services.face import Face
from proxy.services.pop3_session import Pop3Session
from tests.certificates import Certificates, make_certificates
from tests.services.test_pop3_session import Drop, Facts, OneDoor

MAIL = b"Subject: s\r\n\r\n" + (b"x" * 70 + b"\r\n") * 40_000
TIMEOUT = 20


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@dataclass
class Server:
    drop: Drop
    facts: Facts
    sessions: set[Pop3Session]
    port: int
    tls_port: int
    context: ssl.SSLContext


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Server]:
    network = SocketNetwork(server_context(certificates.certificate, certificates.private_key))
    drop, facts = Drop([MAIL]), Facts()
    sessions: set[Pop3Session] = set()
    face = Face(OneDoor(drop), network, facts, SessionPolicy(plaintext_login="never"), "test/1")
    listeners = [
        await network.listen("127.0.0.1:0", partial(Pop3Session, face, sessions, tls=tls), tls=tls)
        for tls in (False, True)
    ]
    port, tls_port = (int(listener.address.rpartition(":")[2]) for listener in listeners)
    context = ssl.create_default_context(cafile=certificates.ca_file)
    yield Server(drop, facts, sessions, port, tls_port, context)
    for listener in listeners:
        await listener.close()


def fetch_and_quit(session: poplib.POP3) -> int:
    session.user("alice")
    session.pass_("right")
    octets = sum(len(line) + 2 for line in session.retr(1)[1])
    session.quit()
    return octets


async def test_a_large_message_and_quit_over_implicit_tls(server: Server) -> None:
    def poll() -> int:
        return fetch_and_quit(
            poplib.POP3_SSL("localhost", server.tls_port, context=server.context, timeout=TIMEOUT)
        )

    assert await asyncio.to_thread(poll) == len(MAIL)
    assert server.drop.committed == [({1}, set())]
    assert (await server.facts.ended()).tls


async def test_a_large_message_and_quit_over_stls(server: Server) -> None:
    """RFC 2595 §4."""

    def poll() -> int:
        session = poplib.POP3("localhost", server.port, timeout=TIMEOUT)
        session.stls(server.context)
        return fetch_and_quit(session)

    assert await asyncio.to_thread(poll) == len(MAIL)
    assert server.drop.committed == [({1}, set())]
    assert (await server.facts.ended()).tls


async def test_what_is_sent_in_clear_behind_stls_is_never_answered(server: Server) -> None:
    """The session goes on in TLS as if it had not been sent."""

    def attack() -> bytes:
        with socket.create_connection(("localhost", server.port), TIMEOUT) as raw:
            raw.recv(100)
            raw.sendall(b"STLS\r\nUSER alice\r\nPASS right\r\nDELE 1\r\nQUIT\r\n")
            assert raw.recv(100) == b"+OK begin TLS\r\n"
            with server.context.wrap_socket(raw, server_hostname="localhost") as tls:
                tls.sendall(b"NOOP\r\n")
                return tls.recv(100)

    try:
        answer = await asyncio.to_thread(attack)
    except (ssl.SSLError, OSError):
        # What was sent behind STLS may have reached the TLS layer, where it is no handshake.
        answer = b"-ERR"
    assert answer.startswith(b"-ERR")
    assert server.drop.committed == []


@pytest.mark.parametrize("rubbish", [b"", b"not a handshake at all, by no means\r\n" * 10])
async def test_a_handshake_that_breaks_off_leaves_no_session_behind(
    server: Server, rubbish: bytes
) -> None:
    def break_off() -> None:
        raw = socket.create_connection(("localhost", server.port), TIMEOUT)
        raw.recv(100)
        raw.sendall(b"STLS\r\n")
        raw.recv(100)
        raw.sendall(rubbish)
        # Closed with a reset.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    await asyncio.to_thread(break_off)
    await server.facts.ended()
    assert server.sessions == set()
