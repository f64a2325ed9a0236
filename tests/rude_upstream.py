"""A POP3 upstream written by hand, sharing no code with the proxy, that can be told to misbehave.

It serves what real servers cannot be made to do: no UIDL, repeated ids, odd greetings, refusals,
lies. One mailbox, any user name, the password "secret".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PASSWORD = "secret"
CHALLENGE = b"<1896.697170952@example.org>"


@dataclass
class RudeUpstream:
    """Change the fields at any time; sessions look at them as they go."""

    mails: list[tuple[str, bytes]] = field(default_factory=list)
    """UIDL and octets (CRLF line ends)."""
    greeting: bytes = b"+OK ready\r\n"
    capabilities: list[str] | None = field(
        default_factory=lambda: ["TOP", "UIDL", "USER", "SASL PLAIN", "PIPELINING"]
    )
    """None: no CAPA at all."""
    has_uidl: bool = True
    has_top: bool = True
    sizes: Callable[[bytes], int] = len
    """What LIST says of a mail."""
    refusals: dict[str, bytes] = field(default_factory=dict)
    """First words of a command ("RETR 2", "PASS") → the line that answers it."""
    hang_up_on: set[str] = field(default_factory=set)
    """First words of commands at which the connection is dropped."""
    silent_on: set[str] = field(default_factory=set)
    """First words of commands that are never answered."""
    close_after: int | None = None
    """The connection is dropped when a session asks for more messages than so many."""
    cram_md5_works: bool = True
    """False: announced, but the password is kept as another hash."""
    endless_challenges: bool = False
    """AUTH and every response to it are answered by a challenge."""
    mechanisms: list[str] = field(default_factory=list)
    """Of every AUTH."""
    scripted: Callable[[list[str]], bytes | None] | None = None
    """What answers a line that is not CAPA, given all such lines of the session so far, whatever
    they say; None: hang up."""
    port: int = 0
    commands: list[str] = field(default_factory=list)
    """Every command received, passwords left out."""
    deleted: list[str] = field(default_factory=list)
    """UIDLs deleted by sessions that ended with QUIT."""

    def retrieved(self) -> int:
        """How many RETR were asked for."""
        return sum(command.startswith("RETR") for command in self.commands)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[RudeUpstream]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, list(self.mails))
        try:
            writer.write(self.greeting)
            while line := await reader.readline():
                answer = session.answer(line.decode("latin-1").rstrip("\r\n"))
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if session.over:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()


class _Session:
    def __init__(self, upstream: RudeUpstream, mails: list[tuple[str, bytes]]) -> None:
        self._upstream = upstream
        self._mails = mails
        self._marked: set[int] = set()
        self._in_sasl = ""
        self._lines: list[str] = []
        self._retrieved = 0
        self.over = False

    def answer(self, line: str) -> bytes | None:
        """None: hang up."""
        upstream = self._upstream
        if upstream.scripted is not None and line != "CAPA":
            self._lines.append(line)
            return upstream.scripted(self._lines)
        if self._in_sasl:
            return self._response(line)
        verb = line.split(" ")[0].upper()
        upstream.commands.append(verb if verb in ("PASS", "AUTH") else line)
        prefixes = {verb, " ".join(line.split(" ")[:2]).upper()}
        if prefixes & upstream.hang_up_on:
            return None
        if prefixes & upstream.silent_on:
            return b""
        for prefix in prefixes & upstream.refusals.keys():
            return upstream.refusals[prefix]
        handler = getattr(self, f"_{verb.lower()}", None)
        if handler is None:
            return b"-ERR unknown command\r\n"
        answer: bytes | None = handler(line.split(" ")[1:])
        return answer

    def _capa(self, _: list[str]) -> bytes:
        if self._upstream.capabilities is None:
            return b"-ERR unknown command\r\n"
        lines = "".join(f"{c}\r\n" for c in self._upstream.capabilities)
        return f"+OK\r\n{lines}.\r\n".encode()

    def _user(self, _: list[str]) -> bytes:
        return b"+OK\r\n"

    def _pass(self, words: list[str]) -> bytes:
        return b"+OK in\r\n" if words == [PASSWORD] else b"-ERR wrong\r\n"

    def _auth(self, words: list[str]) -> bytes:
        self._in_sasl = words[0].upper()
        self._upstream.mechanisms.append(self._in_sasl)
        if self._in_sasl not in ("PLAIN", "CRAM-MD5") and not self._upstream.endless_challenges:
            self._in_sasl = ""
            return b"-ERR unknown mechanism\r\n"
        challenge = CHALLENGE if self._in_sasl == "CRAM-MD5" else b""
        return b"+ " + base64.b64encode(challenge) + b"\r\n"

    def _response(self, line: str) -> bytes:
        if self._upstream.endless_challenges:
            return b"+ \r\n"
        mechanism, self._in_sasl = self._in_sasl, ""
        if mechanism == "PLAIN":
            return self._pass(base64.b64decode(line).decode().split("\0")[2:])
        digest = hmac.new(PASSWORD.encode(), CHALLENGE, "md5").hexdigest()
        right = base64.b64decode(line).decode().split(" ")[1:] == [digest]
        return self._pass([PASSWORD if right and self._upstream.cram_md5_works else ""])

    def _apop(self, words: list[str]) -> bytes:
        timestamp = self._upstream.greeting.split()[-1]
        digest = hashlib.md5(timestamp + PASSWORD.encode()).hexdigest()
        return self._pass([PASSWORD if words[1] == digest else ""])

    def _stat(self, _: list[str]) -> bytes:
        total = sum(self._upstream.sizes(octets) for _, octets in self._mails)
        return f"+OK {len(self._mails)} {total}\r\n".encode()

    def _list(self, _: list[str]) -> bytes:
        sizes = (self._upstream.sizes(octets) for _, octets in self._mails)
        return (
            "+OK\r\n" + "".join(f"{n} {s}\r\n" for n, s in enumerate(sizes, 1)) + ".\r\n"
        ).encode()

    def _uidl(self, words: list[str]) -> bytes:
        if not self._upstream.has_uidl:
            return b"-ERR unknown command\r\n"
        uids = [uid for uid, _ in self._mails]
        if words:
            number = int(words[0])
            return f"+OK {number} {uids[number - 1]}\r\n".encode("latin-1")
        lines = "".join(f"{n} {uid}\r\n" for n, uid in enumerate(uids, 1))
        return f"+OK\r\n{lines}.\r\n".encode("latin-1")

    def _retr(self, words: list[str]) -> bytes | None:
        self._retrieved += 1
        if self._upstream.close_after is not None and self._retrieved > self._upstream.close_after:
            return None
        return b"+OK\r\n" + _stuffed(self._mails[int(words[0]) - 1][1])

    def _top(self, words: list[str]) -> bytes:
        if not self._upstream.has_top:
            return b"-ERR unknown command\r\n"
        header, _, _ = self._mails[int(words[0]) - 1][1].partition(b"\r\n\r\n")
        return b"+OK\r\n" + _stuffed(header.removesuffix(b"\r\n") + b"\r\n\r\n")

    def _dele(self, words: list[str]) -> bytes:
        self._marked.add(int(words[0]) - 1)
        return b"+OK\r\n"

    def _noop(self, _: list[str]) -> bytes:
        return b"+OK\r\n"

    def _quit(self, _: list[str]) -> bytes:
        self.over = True
        gone = [self._mails[index] for index in sorted(self._marked)]
        self._upstream.deleted += [uid for uid, _ in gone]
        for mail in gone:
            self._upstream.mails.remove(mail)
        return b"+OK bye\r\n"


def _stuffed(octets: bytes) -> bytes:
    lines = octets.split(b"\r\n")
    return b"\r\n".join(b"." + x if x.startswith(b".") else x for x in lines) + b".\r\n"


def mail(content: str, *, identified: bool = True) -> bytes:
    """A small mail with this text; without `identified` its header tells nothing."""
    header = f"Message-ID: <{content}@example.org>\r\n" if identified else ""
    return f"{header}Subject: {content}\r\n\r\n{content}\r\n".encode()
