"""One session with an upstream POP3 server: log in, list, fetch, delete, quit."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamGarbled,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.fingerprint import HEADER_LIMIT
from proxy.domain.model import Credentials
from proxy.domain.plan import Entry
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.world import Network, UpstreamTls
from proxy.services.stream import Stream
from proxy.wire import sasl
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.pop3 import Reply
from proxy.wire.pop3_client import BodyEnd, Event, Expect, Part, Pop3Client

TIMEOUT = 60.0
"""Seconds an upstream may stay silent. RFC 1939 §3 lets a server wait ten minutes for us; none
needs a minute to answer."""

LISTING_LIMIT = 64 * 1024 * 1024
"""Octets of one LIST or UIDL answer: some 800,000 messages."""

WINDOW_COMMANDS = 32
WINDOW_OCTETS = 1024 * 1024
"""How much is asked for ahead where PIPELINING is announced. Bounded in octets by what LIST said,
so that a cut connection wastes little; bounded in commands so that neither side's socket buffer
fills with them (RFC 2449 §6.6)."""


SHORT = 0.9
"""A body with less than so much of what LIST said may have been cut off by a line of one dot.
Servers whose LIST is off by line ends stay above it."""


@dataclass(frozen=True, slots=True)
class Began:
    """The answer to one request begins; its parts follow, then `Ended`."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Ended:
    entry: Entry


@dataclass(frozen=True, slots=True)
class Refused:
    """Upstream would not give out this one."""

    entry: Entry
    text: str


Transfer = Began | Part | Ended | Refused


class UpstreamSession:
    """Use `open_session` to get one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._machine = Pop3Client()
        self._events: deque[Event] = deque()
        self.capabilities: dict[str, list[str]] = {}
        """Upper-case name → its parameters (RFC 2449 §5)."""
        self.suspect: Entry | None = None
        """The message behind which an answer was expected when `UpstreamGarbled` was raised."""

    # --- the session's steps --------------------------------------------------------------------

    async def greeting(self) -> None:
        """Raises:
        UpstreamBusy, UpstreamUnusable: the server greets with -ERR.
        """
        reply = await self._reply()
        if not reply.ok:
            raise _refusal(reply, otherwise=UpstreamBusy(f"greeting: {reply.text}"))

    async def learn_capabilities(self) -> None:
        """CAPA; a server without it has none (RFC 2449 §3)."""
        text = await self._body_of(b"CAPA")
        self.capabilities = {}
        for line in (text or b"").decode("ascii", "replace").split("\r\n"):
            name, *parameters = line.upper().split() or [""]
            if name:
                self.capabilities[name] = parameters

    async def start_tls(self, network: Network, tls: UpstreamTls) -> None:
        reply = await self._command(b"STLS")
        if not reply.ok:
            raise UpstreamUnusable(f"upstream does not offer STLS: {reply.text}")
        try:
            self._machine.tls_started()
        except RemoteProtocolError as error:
            raise UpstreamUnreachable(str(error)) from None
        stream = self._stream
        stream.tls_started(await network.start_upstream_tls(stream.transport, stream, tls))

    async def login(self, credentials: Credentials, auth: str) -> None:
        """Raises:
        UpstreamRefusedLogin, UpstreamBusy, UpstreamUnusable: upstream said no.
        """
        username, password = credentials.username.encode(), credentials.password
        if any(octet in username + password for octet in b"\r\n\0"):
            raise UpstreamRefusedLogin("POP3 cannot carry a password with CR, LF or NUL")
        offered = self.capabilities.get("SASL", [])
        if auth == "plain" or (auth == "auto" and "PLAIN" in offered):
            # Two steps, since an initial response may exceed the length of a command line and
            # older servers know none.
            reply = await self._command(b"AUTH PLAIN")
            if reply.challenge:
                response = sasl.encode(b"\0" + username + b"\0" + password)
                reply = await self._command(response)
        else:
            reply = await self._command(b"USER " + username)
            if reply.ok:
                reply = await self._command(b"PASS " + password)
        if not reply.ok:
            raise _refusal(reply, otherwise=UpstreamRefusedLogin(reply.text))
        # RFC 2449 §5: capabilities may differ after the login.
        if self.capabilities:
            await self.learn_capabilities()

    @property
    def login_delay(self) -> float:
        """Seconds to leave between logins (RFC 2449 §6.5); 0 when upstream does not say."""
        parameters = self.capabilities.get("LOGIN-DELAY", [])
        return float(parameters[0]) if parameters and parameters[0].isdigit() else 0.0

    async def stat(self) -> tuple[int, int]:
        """Messages and octets."""
        reply = await self._command(b"STAT")
        words = reply.text.split()
        if not reply.ok or len(words) < 2 or not (words[0].isdigit() and words[1].isdigit()):
            raise UpstreamUnreachable(f"STAT: {reply.text}")
        return int(words[0]), int(words[1])

    async def uid_of(self, number: int) -> str | None:
        """The UIDL of one message; None where upstream has no UIDL."""
        reply = await self._command(b"UIDL %d" % number)
        return reply.text.partition(" ")[2].strip() if reply.ok else None

    async def listing(self) -> list[Entry]:
        """LIST and UIDL together, in order. Without UIDL every uid is "".

        Raises:
            UpstreamUnreachable: the answer makes no sense.
        """
        sizes_text = await self._body_of(b"LIST")
        if sizes_text is None:
            raise UpstreamUnreachable("upstream refuses LIST")
        uids_text = await self._body_of(b"UIDL")
        try:
            sizes = {n: int(rest.split()[0]) for n, rest in _numbered(sizes_text).items()}
            uids = _numbered(uids_text or b"")
        except (ValueError, IndexError):
            raise UpstreamUnreachable("a listing that makes no sense") from None
        return [Entry(number, sizes[number], uids.get(number, "")) for number in sorted(sizes)]

    def retrieve(self, entries: Iterable[Entry]) -> AsyncGenerator[Transfer, None]:
        """RETR of each, in order."""
        return self._transfers(
            (entry, b"RETR %d" % entry.number, entry.octets) for entry in entries
        )

    async def headers(
        self, entries: Iterable[Entry]
    ) -> AsyncGenerator[tuple[Entry, bytes | None], None]:
        """The header of each by TOP, in order; None where upstream refuses."""
        requests = ((entry, b"TOP %d 0" % entry.number, 0) for entry in entries)
        header = bytearray()
        async with aclosing(self._transfers(requests)) as transfers:
            async for transfer in transfers:
                if isinstance(transfer, Part):
                    # What TOP sends beyond a header's limit is of no use to anybody.
                    header += transfer.data[: max(HEADER_LIMIT - len(header), 0)]
                elif isinstance(transfer, Ended):
                    yield transfer.entry, bytes(header)
                    header.clear()
                elif isinstance(transfer, Refused):
                    yield transfer.entry, None

    async def delete(self, numbers: Iterable[int]) -> list[int]:
        """DELE each; returns those that upstream accepted. They count only after `quit`."""
        return [n for n in numbers if (await self._command(b"DELE %d" % n)).ok]

    async def quit(self) -> bool:
        """Whether upstream answered +OK, and so has done what DELE asked for (RFC 1939 §6)."""
        reply = await self._command(b"QUIT")
        self._stream.close()
        return reply.ok

    def abort(self) -> None:
        """Drop the connection; upstream deletes nothing."""
        self._stream.abort()

    # --- within ---------------------------------------------------------------------------------

    async def _transfers(
        self, requests: Iterable[tuple[Entry, bytes, int]]
    ) -> AsyncGenerator[Transfer, None]:
        """Send each command, ahead where upstream allows it, and give out the bodies.

        A request is an entry, its command, and the octets the answer is expected to have. A body
        that is much shorter counts only when what follows it is an answer again: a server that
        forgets to stuff a line of one dot ends the body there and goes on with the message.

        Raises:
            UpstreamGarbled: it did; `suspect` is the message.
        """
        ahead = WINDOW_COMMANDS if "PIPELINING" in self.capabilities else 1
        waiting = deque(requests)
        asked: deque[tuple[Entry, int]] = deque()
        while waiting or asked:
            octets = sum(weight for _, weight in asked)
            commands = b""
            while waiting and len(asked) < ahead and (not asked or octets < WINDOW_OCTETS):
                entry, command, weight = waiting.popleft()
                commands += self._machine.send(command, Expect.BODY)
                asked.append((entry, weight))
                octets += weight
            if commands:
                await self._stream.write(commands)
            entry, weight = asked[0]
            reply = await self._reply()
            if not reply.ok:
                asked.popleft()
                yield Refused(entry, reply.text)
                continue
            yield Began(entry)
            received = 0
            while not isinstance(event := await self._next_event(), BodyEnd):
                if isinstance(event, Part):
                    received += len(event.data)
                    yield event
            asked.popleft()
            if received < weight * SHORT:
                await self._check_what_follows(entry, pipelined=bool(asked))
            yield Ended(entry)

    async def _check_what_follows(self, entry: Entry, *, pipelined: bool) -> None:
        """Raises:
        UpstreamGarbled: the octets behind a body are no answer; `suspect` is the message.
        """
        self.suspect = entry
        if not pipelined:
            # Were the rest of the message to come, it would come in front of this answer.
            await self._command(b"NOOP")
        elif not self._events:
            await self._read_events()
        self.suspect = None

    async def _body_of(self, command: bytes) -> bytes | None:
        """The whole multi-line answer; None when upstream refuses."""
        await self._stream.write(self._machine.send(command, Expect.BODY))
        if not (await self._reply()).ok:
            return None
        body = bytearray()
        while not isinstance(event := await self._next_event(), BodyEnd):
            if isinstance(event, Part):
                body += event.data
            if len(body) > LISTING_LIMIT:
                raise UpstreamUnreachable("a listing without end")
        return bytes(body)

    async def _command(self, line: bytes) -> Reply:
        await self._stream.write(self._machine.send(line))
        return await self._reply()

    async def _reply(self) -> Reply:
        event = await self._next_event()
        if not isinstance(event, Reply):
            raise UpstreamUnreachable("an answer of the wrong shape")
        return event

    async def _next_event(self) -> Event:
        while not self._events:
            await self._read_events()
        return self._events.popleft()

    async def _read_events(self) -> None:
        if self._machine.broken is not None:
            raise UpstreamGarbled(f"upstream broke the protocol: {self._machine.broken}")
        data = await self._stream.read()
        if not data:
            raise UpstreamUnreachable("upstream closed the connection")
        self._events.extend(self._machine.receive(data))


async def open_session(
    network: Network, server: UpstreamServer, credentials: Credentials
) -> UpstreamSession:
    """Connect and log in.

    Raises:
        UpstreamUnreachable, UpstreamBusy, UpstreamRefusedLogin, UpstreamUnusable.
    """
    session = await connect(network, server)
    try:
        await session.login(credentials, server.auth)
    except BaseException:
        session.abort()
        raise
    return session


async def connect(network: Network, server: UpstreamServer) -> UpstreamSession:
    """Connect up to the point where a login is due: greeting, capabilities, STLS."""
    tls = UpstreamTls(server.host, server.ca_file)
    _, stream = await network.connect(
        server.host,
        server.port,
        lambda: Stream(TIMEOUT),
        tls if server.tls == "implicit" else None,
    )
    session = UpstreamSession(stream)
    try:
        await session.greeting()
        if server.tls == "starttls":
            await session.start_tls(network, tls)
        await session.learn_capabilities()
    except BaseException:
        session.abort()
        raise
    return session


def _numbered(text: bytes) -> dict[int, str]:
    """Lines of "number rest"."""
    numbered = {}
    for line in text.decode("latin-1").split("\r\n"):
        if line:
            number, _, rest = line.partition(" ")
            numbered[int(number)] = rest.strip()
    return numbered


# What servers without response codes say when trying later helps.
_BUSY_TEXT = re.compile(r"lock|busy|in use|temporar|try again|too many|unavailable|later", re.I)


def _refusal(reply: Reply, *, otherwise: ProxyError) -> ProxyError:
    """The error that a -ERR stands for (RFC 2449 §8.1, RFC 3206 §4)."""
    if reply.code == "AUTH":
        return UpstreamRefusedLogin(reply.text)
    if reply.code in ("IN-USE", "LOGIN-DELAY", "SYS/TEMP"):
        return UpstreamBusy(reply.text)
    if reply.code.startswith("SYS/"):
        return UpstreamUnusable(reply.text)
    if _BUSY_TEXT.search(reply.text):
        return UpstreamBusy(reply.text)
    return otherwise
