"""A relay between proxy and SMTP server that makes trouble at a chosen step of their conversation.

Plain text alone: what follows STARTTLS is passed on unread. It relies on the proxy waiting for each
answer, as it does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.e2e.tap import CHUNK, Tap
from tests.e2e.waiting import PATIENCE

When = Literal["asked", "answered", "half", "passed"]
"""The command has come and is not passed on; it is answered, and the answer is not passed on; half
of the answer is passed on; all of it is."""

Act = Literal["cut", "end", "stall"] | bytes | Callable[[], None]
"""Hang up on both sides; say nothing more, and listen; wait for `SmtpTap.go_on`; give the proxy
these octets for an answer, without asking the server if it is not asked yet; call this on the tap's
thread, and go on."""

END = b"\r\n.\r\n"


@dataclass
class Trouble:
    point: str
    """ "connect", "greeting", a verb, "content" (half of what came of it is passed on) or "dot" (it
    has come whole, and all but its end is passed on)."""
    when: When
    act: Act
    always: bool
    """Or at the first time only."""
    happened: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        assert self.happened.wait(PATIENCE), f"nobody came to {self.point} {self.when}"


class _Cut(Exception):
    """The connection is to end."""


@dataclass
class _Line:
    """One relayed connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    up_reader: asyncio.StreamReader
    up_writer: asyncio.StreamWriter


class SmtpTap(Tap):
    """See `Tap`, whose ways to count and to spoil POP3 are of no use here."""

    def __init__(self, host: str, port: int) -> None:
        self.commands: list[str] = []
        """That came from the proxy, but for what logs it in."""
        self.contents: list[bytearray] = []
        """What the proxy sent after each 354, complete or not."""
        self.connections = 0
        self._troubles: list[Trouble] = []
        self._go_on = asyncio.Event()
        super().__init__(host, port)

    def make_trouble(
        self, point: str, when: When, act: Act = "cut", *, always: bool = False
    ) -> Trouble:
        made = Trouble(point, when, act, always)
        self._troubles.append(made)
        return made

    def go_on(self) -> None:
        """Let pass what stalls, and stall no more."""
        self._loop.call_soon_threadsafe(self._go_on.set)

    def no_more_trouble(self) -> None:
        """From now on; what stalls goes on to do so."""
        self._troubles.clear()

    def later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """For `make_trouble`: a call that comes so much later, whatever happens meanwhile."""

        def begin() -> None:
            self._loop.call_later(seconds, call)

        return begin

    def drop(self) -> None:
        """Hang up on every connection."""
        self._run(self._drop())

    # --- one connection -------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        line: _Line | None = None
        try:
            await self._happen(writer, "connect", "asked")
            line = _Line(reader, writer, *await asyncio.open_connection(*self._target))
            await self._relay(line)
        except (_Cut, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The last: `_drop` has cancelled this connection alone, and waits for its end.
            pass
        finally:
            writer.transport.abort()
            if line is not None:
                line.up_writer.transport.abort()
            self._tasks.discard(task)

    async def _relay(self, line: _Line) -> None:
        await self._answer(line, "greeting", await _reply(line.up_reader))
        while command := await line.reader.readline():
            verb = command.decode("latin-1").split()[0].upper()
            self.commands.append(verb if verb == "AUTH" else command.decode("latin-1").rstrip())
            answer = await self._happen(line.writer, verb, "asked")
            if answer is None:
                line.up_writer.write(command)
                answer = await _reply(line.up_reader)
            answer = await self._answer(line, verb, answer)
            if verb == "STARTTLS" and answer.startswith(b"220"):
                await self._pass_on_unread(line)
                return
            if verb == "DATA" and answer.startswith(b"354"):
                await self._content(line)

    async def _answer(self, line: _Line, point: str, answer: bytes) -> bytes:
        """Give the proxy an answer; returns what it was given."""
        answer = await self._happen(line.writer, point, "answered") or answer
        half = len(answer) // 2 if self._is_due(point, "half") else 0
        if half:
            line.writer.write(answer[:half])
            await line.writer.drain()
            await self._happen(line.writer, point, "half")
        line.writer.write(answer[half:])
        await line.writer.drain()
        await self._happen(line.writer, point, "passed")
        return answer

    async def _content(self, line: _Line) -> None:
        """What may be the end of it is held back until it is known to be."""
        self.contents.append(bytearray())
        sent = 0
        while not (b"\r\n" + self.contents[-1][-len(END) :]).endswith(END):
            data = await line.reader.read(CHUNK)
            if not data:
                raise _Cut
            self.contents[-1] += data
            content = self.contents[-1]
            if not sent:
                sent = len(content) // 2
                line.up_writer.write(content[:sent])
                await line.up_writer.drain()
                early = await self._happen(line.writer, "content", "asked")
                if early is not None:
                    await self._answer_early(line, early)
            known = max(sent, len(content) - len(END))
            line.up_writer.write(content[sent:known])
            await line.up_writer.drain()
            sent = known
        answer = await self._happen(line.writer, "dot", "asked")
        if answer is None:
            line.up_writer.write(self.contents[-1][sent:])
            answer = await _reply(line.up_reader)
        await self._answer(line, "dot", answer)

    async def _answer_early(self, line: _Line, answer: bytes) -> None:
        """The server is not to have this mail; what more the proxy says is heard by nobody."""
        line.writer.write(answer)
        await line.writer.drain()
        await self._happen(line.writer, "content", "passed")
        while data := await line.reader.read(CHUNK):
            self.contents[-1] += data
        raise _Cut

    async def _pass_on_unread(self, line: _Line) -> None:
        ways = [
            asyncio.create_task(_pump(line.reader, line.up_writer)),
            asyncio.create_task(_pump(line.up_reader, line.writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    # --- trouble --------------------------------------------------------------------------------

    def _is_due(self, point: str, when: When) -> bool:
        return any((each.point, each.when) == (point, when) for each in self._troubles)

    async def _happen(self, writer: asyncio.StreamWriter, point: str, when: When) -> bytes | None:
        """Make the trouble that is due; returns the octets that are to be the answer."""
        due = [each for each in self._troubles if (each.point, each.when) == (point, when)]
        for trouble in due:
            if not trouble.always:
                self._troubles.remove(trouble)
            trouble.happened.set()
            if trouble.act == "cut":
                raise _Cut
            if trouble.act == "end":
                writer.write_eof()
            elif trouble.act == "stall":
                await self._go_on.wait()
            elif isinstance(trouble.act, bytes):
                return trouble.act
            elif callable(trouble.act):
                trouble.act()
        return None


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """A whole answer with all its lines."""
    lines: list[bytes] = []
    while not lines or lines[-1][3:4] == b"-":
        lines.append(await reader.readuntil(b"\n"))
    return b"".join(lines)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
