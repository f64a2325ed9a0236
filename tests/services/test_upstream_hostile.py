"""Upstreams that mean harm, or are not who they should be: bounded memory and a clear error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.domain.errors import ProxyError, UpstreamSilent, UpstreamUnreachable
from proxy.domain.model import Credentials
from proxy.domain.policy import TlsMode, UpstreamServer
from proxy.services import conversation, stream
from proxy.services.upstream import UpstreamSession
from proxy.services.upstream_dial import open_session
from proxy.services.upstream_memory import ServerMemory, UpstreamMemory
from tests.services.house import QuickPasswords, SetClock, world_of

WORLD = world_of(Path("/nowhere"), SetClock(), QuickPasswords())

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def listening(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Runs `script` for each connection; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)  # type: ignore[misc]
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def log_in(port: int, tls: TlsMode = "none", ca_file: str = "") -> UpstreamSession:
    server = UpstreamServer("localhost", port, tls, ca_file)
    memory = UpstreamMemory(ServerMemory(patience=1.0))
    return await open_session(WORLD, server, Credentials("alice", b"secret"), memory)


def answering(**answers: bytes) -> Script:
    """A server that answers each command with a line, or with what stands here for it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        while line := await reader.readline():
            verb = line.split()[0].decode().upper()
            answer = answers.get(verb, b"-ERR\r\n" if verb == "CAPA" else b"+OK 1 100\r\n")
            writer.write(answer)
            await writer.drain()

    return script


def endless(beginning: bytes, repeated: bytes) -> Script:
    """LIST is answered for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        while line := await reader.readline():
            if not line.startswith(b"LIST"):
                writer.write(b"-ERR\r\n" if line.startswith(b"CAPA") else b"+OK 1 100\r\n")
                continue
            writer.write(beginning)
            while True:
                writer.write(repeated)
                await writer.drain()

    return script


# --- answers without end -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beginning", "repeated"),
    [
        (b"+OK\r\n", b"1 100\r\n" * 10_000),
        (b"+OK\r\n", b"x" * 65_536),
        (b"+OK ", b"x" * 65_536),
        (b"", b"x" * 65_536),
        (b"", b"+OK\r\n" * 10_000),
    ],
)
async def test_an_answer_without_end_is_broken_off(
    beginning: bytes, repeated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LISTING_LIMIT", 1024 * 1024)
    async with listening(endless(beginning, repeated)) as port:
        session = await log_in(port)
        with pytest.raises(UpstreamUnreachable):
            await session.listing(1)
        session.abort()


@pytest.mark.parametrize(
    "greeting", [b"+OK " + b"x" * 100_000, b"\0" * 100_000, b"HTTP/1.1 400\r\n"]
)
async def test_a_greeting_that_is_none_is_broken_off(greeting: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    async with listening(script) as port:
        with pytest.raises(UpstreamUnreachable):
            await log_in(port)


async def test_an_octet_now_and_then_is_no_better_than_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "SLOW_AFTER", 0.02)
    monkeypatch.setattr(stream, "SLOWEST", 1_000_000)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"+")
            await asyncio.sleep(0.005)

    async with listening(script) as port:
        with pytest.raises(UpstreamSilent, match="octets in"):
            await log_in(port)


@pytest.mark.parametrize(
    "stat",
    [
        b"+OK -1 5\r\n",
        b"+OK 1e9 5\r\n",
        b"+OK\r\n",
        b"+OK 1\r\n",
        b"+OK 1 mail\r\n",
        b"+OK " + b"9" * 5000 + b" 1\r\n",
        b"+ 1 5\r\n",
        b"-ERR\r\n",
    ],
)
async def test_numbers_that_are_none_are_refused(stat: bytes) -> None:
    async with listening(answering(STAT=stat)) as port:
        with pytest.raises(UpstreamUnreachable):
            await log_in(port)


async def test_a_listing_of_more_messages_than_anybody_has_is_refused() -> None:
    lines = b"".join(b"%d 1\r\n" % n for n in range(1, 500_100))
    async with listening(answering(LIST=b"+OK\r\n" + lines + b".\r\n", UIDL=b"-ERR\r\n")) as port:
        session = await log_in(port)
        with pytest.raises(UpstreamUnreachable, match="more than 500000"):
            await session.listing(1)
        session.abort()


# --- who is it? ----------------------------------------------------------------------------------


def certificate(folder: Path, name: str, *, days: int = 1) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "server.pem", folder / "server.key"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context, str(file)


@pytest.mark.parametrize(
    ("name", "days", "trusted", "told"),
    [
        ("localhost", -1, True, "expired"),
        ("pop.example.com", 1, True, "mismatch"),
        ("localhost", 1, False, "self-signed"),
    ],
)
async def test_a_certificate_that_does_not_hold_is_told_and_no_password_sent(
    tmp_path: Path, name: str, days: int, trusted: bool, told: str
) -> None:
    context, vouching = certificate(tmp_path, name, days=days)
    heard = bytearray()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())

    async with listening(script, context) as port:
        with pytest.raises(ProxyError, match=f"certificate does not verify: .*{told}"):
            await log_in(port, "implicit", vouching if trusted else "")
    assert not heard


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_put_behind_the_answer_to_stls_is_not_taken_for_an_answer(
    tmp_path: Path, together: bool
) -> None:
    """An attacker in the middle could so answer CAPA or the login in the server's name."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        await reader.readline()
        answer, more = b"+OK begin\r\n", b"+OK\r\nSASL LOGIN\r\n.\r\n"
        writer.write(answer + more if together else answer)
        await writer.drain()
        if not together:
            writer.write(more)
        await reader.read()

    async with listening(script) as port:
        with pytest.raises(UpstreamUnreachable):
            await log_in(port, "starttls")


async def test_a_server_without_stls_gets_no_password() -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        while line := await reader.readline():
            heard.append(line)
            writer.write(b"-ERR what?\r\n")

    async with listening(script) as port:
        with pytest.raises(ProxyError, match="STLS"):
            await log_in(port, "starttls")
    assert heard == [b"STLS\r\n"]
