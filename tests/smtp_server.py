"""An SMTP server that does as it is told: every answer can be set, and the connection be cut."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CUT = "cut"
"""An answer that is none: the connection is aborted."""

SILENCE = "silence"
"""An answer that does not come; the connection stays."""

OFFERS = ("8BITMIME", "SIZE 1000000", "SMTPUTF8", "DSN", "PIPELINING", "AUTH PLAIN LOGIN CRAM-MD5")


@dataclass
class SmtpServer:
    answers: dict[str, str] = field(default_factory=dict)
    """By the beginning of the command; "." is the end of the content, "" the greeting."""
    once: dict[str, str] = field(default_factory=dict)
    """The same, for the next time alone."""
    offers: tuple[str, ...] = OFFERS
    password: str = "secret"
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    """Contents that were accepted, as they came: stuffed, the terminator included."""
    sessions: int = 0
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Some content has come whole."""
    hold: asyncio.Event | None = None
    """Waited for before the end of the content is answered, or before silence within it ends."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            self._say(writer, self.answers.get("", "220 ready"))
            while line := await reader.readline():
                await self._command(line.decode().rstrip("\r\n"), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _command(
        self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.commands.append(line)
        once = [begin for begin in self.once if line.startswith(begin)]
        if once:
            self._say(writer, self.once.pop(once[0]))
            return
        told = [said for begin, said in self.answers.items() if begin and line.startswith(begin)]
        verb = line.split(" ")[0].upper()
        if told:
            self._say(writer, told[0])
        elif verb == "EHLO":
            lines = ["test", *self.offers]
            self._say(writer, "\r\n".join(f"250-{x}" for x in lines[:-1]) + f"\r\n250 {lines[-1]}")
        elif verb == "AUTH":
            self._say(writer, self._auth(line))
        elif verb == "DATA":
            self._say(writer, "354 go on")
            await self._content(reader, writer)
        elif verb == "QUIT":
            self._say(writer, "221 2.0.0 bye")
            writer.close()
            raise ConnectionResetError
        else:
            self._say(writer, "250 2.1.0 fine")

    def _auth(self, line: str) -> str:
        given = base64.b64decode(line.split(" ")[-1]).split(b"\0")[-1].decode()
        return "235 2.7.0 in" if given == self.password else "535 5.7.8 no"

    async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.answers.get("content") == CUT:
            writer.transport.abort()
            raise ConnectionResetError
        if self.answers.get("content") == SILENCE and self.hold is not None:
            # Not even read, so that what is on its way piles up.
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self.hold.wait()
            writer.transport.abort()
            raise ConnectionResetError
        content = bytearray(b"\r\n")
        while not content.endswith(b"\r\n.\r\n"):
            data = await reader.readline()
            if not data:
                raise ConnectionResetError
            content += data
        self.ended.set()
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.get(".", "250 2.0.0 taken as 4711")
        if answer.startswith("250"):
            self.mails.append(bytes(content[2:]))
        self._say(writer, answer)

    def _say(self, writer: asyncio.StreamWriter, text: str) -> None:
        if text == CUT:
            writer.transport.abort()
            raise ConnectionResetError
        if text != SILENCE:
            writer.write(text.encode() + b"\r\n")


@asynccontextmanager
async def smtp_server(**told: object) -> AsyncIterator[SmtpServer]:
    made = SmtpServer(**told)  # type: ignore[arg-type]
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**24)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
