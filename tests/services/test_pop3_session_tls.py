"""Device sessions with TLS, on real sockets."""

from __future__ import annotations

import asyncio
import poplib
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from proxy.adapters.certificate import device_context
from proxy.adapters.net import SocketNetwork
from proxy.domain.policy import LimitsPolicy, PlaintextLogin, Seconds, SessionPolicy
from proxy.services.face import Face
from proxy.services.pop3_session import Pop3Session
from proxy.services.sessions import Sessions
from tests.certificates import Certificates, make_certificates
from tests.services.test_pop3_session import Drop, Facts, OneDoor

MAIL = b"Subject: s\r\n\r\n" + (b"x" * 70 + b"\r\n") * 40_000
TIMEOUT = 20

T = TypeVar("T")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@dataclass
class Server:
    drop: Drop
    facts: Facts
    sessions: Sessions[Pop3Session]
    port: int
    tls_port: int
    ca_file: Path

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


@asynccontextmanager
async def serving(
    certificates: Certificates,
    limits: LimitsPolicy | None = None,
    plaintext_login: PlaintextLogin = "never",
) -> AsyncIterator[Server]:
    network = SocketNetwork(device_context(certificates.certificate, certificates.private_key))
    drop, facts = Drop([MAIL]), Facts()
    limits = limits or LimitsPolicy()
    sessions: Sessions[Pop3Session] = Sessions(limits)
    policy = SessionPolicy(plaintext_login=plaintext_login)
    face = Face(OneDoor(drop), network, facts, policy, limits, "test/1")
    listeners = [
        await network.listen("127.0.0.1:0", partial(Pop3Session, face, sessions, tls=tls))
        for tls in (False, True)
    ]
    port, tls_port = (int(listener.addresses[0].rpartition(":")[2]) for listener in listeners)
    yield Server(drop, facts, sessions, port, tls_port, certificates.ca_file)
    for listener in listeners:
        await listener.close()


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Server]:
    async with serving(certificates) as made:
        yield made


class Plain:
    """A blocking client that sees every octet."""

    def __init__(self, port: int) -> None:
        self.raw = socket.create_connection(("localhost", port), TIMEOUT)
        self.greeting = self.line()

    def ask(self, *lines: bytes) -> bytes:
        """The answer to the first of these lines, which are sent at once."""
        self.raw.sendall(b"".join(line + b"\r\n" for line in lines))
        return self.line()

    def line(self) -> bytes:
        got = b""
        while not got.endswith(b"\n") and (octet := self.raw.recv(1)):
            got += octet
        return got

    def upgrade(self, context: ssl.SSLContext) -> None:
        self.raw = context.wrap_socket(self.raw, server_hostname="localhost")

    def capabilities(self) -> list[bytes]:
        assert self.ask(b"CAPA").startswith(b"+OK")
        found = []
        while (line := self.line().strip()) != b".":
            found.append(line)
        return found


async def meet(server: Server, story: Callable[[Plain], T]) -> T:
    """Play a story with a client on the plain-text port."""

    def run() -> T:
        client = Plain(server.port)
        try:
            return story(client)
        finally:
            client.raw.close()

    return await asyncio.to_thread(run)


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
    assert (await server.facts.ended()).tls == "TLSv1.3"


async def test_a_large_message_and_quit_over_stls(server: Server) -> None:
    """RFC 2595 §4."""

    def poll() -> int:
        session = poplib.POP3("localhost", server.port, timeout=TIMEOUT)
        session.stls(server.context)
        return fetch_and_quit(session)

    assert await asyncio.to_thread(poll) == len(MAIL)
    assert server.drop.committed == [({1}, set())]
    assert (await server.facts.ended()).tls == "TLSv1.3"


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_sent_in_clear_behind_stls_is_never_carried_out(
    server: Server, together: bool
) -> None:
    """RFC 2595 §4: neither commands nor their answers cross into the TLS layer."""
    smuggled = [b"USER alice", b"PASS right", b"DELE 1", b"QUIT"]

    def attack(client: Plain) -> bytes:
        if together:
            assert client.ask(b"STLS", *smuggled) == b"+OK begin TLS\r\n"
        else:
            assert client.ask(b"STLS") == b"+OK begin TLS\r\n"
            client.raw.sendall(b"\r\n".join(smuggled))
        try:
            client.upgrade(server.context)
            return client.ask(b"NOOP")
        except (ssl.SSLError, OSError):
            # It has reached the TLS layer, where it is no handshake.
            return b"-ERR"

    assert (await meet(server, attack)).startswith(b"-ERR")
    assert server.drop.committed == []


async def test_no_answer_in_clear_follows_the_one_to_stls(server: Server) -> None:
    """RFC 2595 §4: what is pipelined behind STLS is not answered, in clear or in TLS."""

    def story(client: Plain) -> bytes:
        client.ask(b"STLS", b"CAPA", b"USER x")
        client.raw.settimeout(0.3)
        try:
            return client.raw.recv(100)
        except TimeoutError:
            return b""

    assert await meet(server, story) == b""


async def test_stls_is_announced_until_tls_is_there(server: Server) -> None:
    """RFC 2595 §4."""

    def story(client: Plain) -> tuple[list[bytes], list[bytes], bytes]:
        before = client.capabilities()
        client.ask(b"STLS")
        client.upgrade(server.context)
        return before, client.capabilities(), client.ask(b"STLS")

    before, after, again = await meet(server, story)
    assert b"STLS" in before
    assert b"STLS" not in after
    assert again.startswith(b"-ERR")


async def test_stls_is_refused_after_the_login(server: Server) -> None:
    """RFC 2595 §4."""

    def story(client: Plain) -> bytes:
        client.ask(b"STLS")
        client.upgrade(server.context)
        client.ask(b"USER alice")
        assert client.ask(b"PASS right").startswith(b"+OK")
        return client.ask(b"STLS")

    assert (await meet(server, story)).startswith(b"-ERR")


async def test_a_user_named_in_clear_is_forgotten_by_stls(certificates: Certificates) -> None:
    """RFC 2595 §4."""
    async with serving(certificates, plaintext_login="always") as server:

        def story(client: Plain) -> bytes:
            assert client.ask(b"USER alice").startswith(b"+OK")
            client.ask(b"STLS")
            client.upgrade(server.context)
            return client.ask(b"PASS right")

        assert (await meet(server, story)).startswith(b"-ERR")


async def test_logins_in_clear_are_neither_announced_nor_taken_where_they_are_not_allowed(
    server: Server,
) -> None:
    """RFC 8314 §3.3, RFC 2595 §2.3."""

    def story(client: Plain) -> tuple[list[bytes], bytes, bytes]:
        return client.capabilities(), client.ask(b"USER alice"), client.ask(b"AUTH PLAIN")

    capabilities, user, auth = await meet(server, story)
    assert not [line for line in capabilities if line.startswith((b"USER", b"SASL"))]
    assert user.startswith(b"-ERR")
    assert auth.startswith(b"-ERR")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_before_1_2_is_refused(server: Server, version: ssl.TLSVersion) -> None:
    """RFC 8314 §4.1, as RFC 8997 has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Without this OpenSSL would not even try.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version

    def connect() -> None:
        with socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw:
            context.wrap_socket(raw)

    with pytest.raises(OSError, match=r"(?i)alert|version|protocol"):
        await asyncio.to_thread(connect)
    assert (await server.facts.ended()).ended == "tls_error"


async def test_tls_1_2_is_taken_with_forward_secrecy_alone(server: Server) -> None:
    """RFC 8314 §4.1."""
    context = ssl.create_default_context(cafile=server.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect() -> str:
        with (
            socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            chosen = tls.cipher()
            assert chosen is not None
            return chosen[0]

    assert (await asyncio.to_thread(connect)).startswith("ECDHE-")
    assert (await server.facts.ended()).tls == "TLSv1.2"


async def test_implicit_tls_greets_behind_the_handshake(server: Server) -> None:
    """RFC 8314 §3.2."""

    def connect() -> bytes:
        with (
            socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw,
            server.context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return tls.recv(100)

    assert (await asyncio.to_thread(connect)).startswith(b"+OK")


async def test_a_client_that_never_begins_its_handshake_is_dropped(
    certificates: Certificates,
) -> None:
    limits = LimitsPolicy(login_timeout=Seconds(0.3))
    async with serving(certificates, limits) as server:

        def connect() -> bytes:
            with socket.create_connection(("localhost", server.tls_port), TIMEOUT) as raw:
                try:
                    return raw.recv(100)
                except ConnectionResetError:
                    return b""

        assert await asyncio.to_thread(connect) == b""
        assert (await server.facts.ended()).ended == "login_timeout"


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
    assert len(server.sessions) == 0
