"""A proxy that takes mail on a real socket and hands it to a server that does as it is told."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from proxy.adapters.certificate import device_context
from proxy.adapters.net import SocketNetwork
from proxy.adapters.smtp_upstream import AioSmtpDialer
from proxy.domain.model import Message
from proxy.domain.policy import LimitsPolicy, SessionPolicy, SmtpServer, SubmissionLimits
from proxy.services.face import Face
from proxy.services.room import Room
from proxy.services.smtp_session import SmtpSession
from tests.certificates import Certificates
from tests.services.house import NO_DELAY, Facts, House, declared, house, policy_for
from tests.smtp_server import SmtpServer as Upstream
from tests.smtp_server import smtp_server

PATIENCE = 20.0

MAIL = b"From: alice@example.org\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nText\r\n"


def plain(username: str = "alice+laptop", password: str = "secret") -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{username}\0{password}".encode())


class Talk:
    """A client that writes octets and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> str:
        """The next one, its lines joined; "" when the connection has ended."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not lines or lines[-1][3:4] == "-":
                try:
                    line = (await self.reader.readline()).decode()
                except ConnectionError:
                    return ""
                if not line:
                    return ""
                lines.append(line.rstrip("\r\n"))
        return "\n".join(lines)

    async def say(self, line: bytes) -> str:
        self.writer.write(line + b"\r\n")
        return await self.answer()

    async def hello(self, login: bytes | None = None) -> str:
        """Greeting, EHLO and a login; the answer to EHLO."""
        assert (await self.answer()).startswith("220 ")
        offers = await self.say(b"EHLO client")
        if login is not None:
            assert (await self.say(login)).startswith("235 ")
        return offers

    async def send(self, mail: bytes = MAIL, *recipients: bytes) -> str:
        """A whole mail as it stands, not stuffed; the answer to DATA if that is no, or the last."""
        assert (await self.say(b"MAIL FROM:<alice@example.org>")).startswith("250 ")
        for recipient in recipients or (b"bob@example.org",):
            assert (await self.say(b"RCPT TO:<" + recipient + b">")).startswith("250 ")
        begun = await self.say(b"DATA")
        return await self.say(mail + b".") if begun.startswith("354 ") else begun

    async def start_tls(self, context: ssl.SSLContext) -> None:
        assert (await self.say(b"STARTTLS")).startswith("220 ")
        await self.writer.start_tls(context, server_hostname="localhost")

    def hang_up(self) -> None:
        self.writer.transport.abort()


@dataclass
class SmtpHouse:
    house: House
    upstream: Upstream
    port: int
    tls_port: int

    @property
    def facts(self) -> Facts:
        return self.house.facts

    @asynccontextmanager
    async def talk(
        self, login: bytes | None = None, *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Talk]:
        port = self.tls_port if tls else self.port
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None, limit=2**20
        )
        talk = Talk(reader, writer)
        try:
            if login is not None:
                await talk.hello(login)
            yield talk
        finally:
            talk.hang_up()

    async def all_gone(self) -> None:
        for face in self.house.core.smtp_sessions:
            await face.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while len(self.house.core.smtp_sessions):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)

    async def copies(self, username: str) -> list[bytes]:
        """What this device's maildrop shows."""
        account = await self.house.store.account("alice")
        assert account is not None
        device = await self.house.store.device(account.id, username)
        assert device is not None
        hidden = await self.house.store.hidden(device.id, "all")
        messages = await self.house.store.messages(account.id)
        return [self._octets(message) for message in messages if message.id not in hidden]

    def _octets(self, message: Message) -> bytes:
        reader = self.house.store.open_blob(message)
        try:
            return reader.read(message.octets)
        finally:
            reader.close()


@asynccontextmanager
async def smtp_house(
    folder: Path,
    *,
    certificates: Certificates | None = None,
    limits: LimitsPolicy = NO_DELAY,
    session: SessionPolicy | None = None,
    submission: SubmissionLimits | None = None,
    smtp: dict[str, Any] | None = None,
    pass_through: bool = False,
    room: Room | None = None,
    **told: object,
) -> AsyncIterator[SmtpHouse]:
    """One account "alice" with the devices laptop and phone; `told` is what upstream does."""
    context = (
        device_context(certificates.certificate, certificates.private_key) if certificates else None
    )
    network = SocketNetwork(context)
    async with smtp_server(**told) as upstream:
        server = replace(SmtpServer("127.0.0.1", upstream.port, "none"), **(smtp or {}))
        policy = policy_for(1, smtp=server)
        accounts = () if pass_through else (declared(policy),)
        async with house(
            folder,
            policy,
            *accounts,
            limits=limits,
            pass_through=pass_through,
            dialer=AioSmtpDialer(),
            room=room,
        ) as made:
            made.core.submissions.limits = submission or SubmissionLimits()
            account = await made.store.ensure_account("alice", declared=True, at=0.0)
            for name in ("laptop", "phone"):
                await made.store.add_device(account.id, name, since=None, at=0.0)
            core = made.core
            face = Face(
                core.logins,
                network,
                made.facts,
                session or SessionPolicy(),
                limits,
                "test/1",
                rights=core.rights,
            )
            session_of = partial(SmtpSession, face, core.smtp_sessions, core.submissions)
            clear = await network.listen("127.0.0.1:0", partial(session_of, tls=False))
            tls = await network.listen("127.0.0.1:0", partial(session_of, tls=True))
            ports = [int(one.addresses[0].rpartition(":")[2]) for one in (clear, tls)]
            try:
                yield SmtpHouse(made, upstream, *ports)
            finally:
                await clear.close()
                await tls.close()
                for one in core.smtp_sessions:
                    one.shut_down()
                    await one.wait_closed()
                await made.core.submissions.close()
