"""Commands and answers over one upstream connection, and a watch on whether the server pipelines
as it says.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from proxy.domain.errors import UpstreamGarbled, UpstreamSilent, UpstreamUnreachable
from proxy.services.stream import Stream
from proxy.services.upstream_memory import ServerMemory
from proxy.wire.pop3 import Reply
from proxy.wire.pop3_client import BodyEnd, Event, Expect, Part, Pop3Client

LISTING_LIMIT = 32 * 1024 * 1024
"""Octets of one LIST, UIDL or TOP answer: some 400,000 messages."""

Request = tuple[bytes, Expect]


@dataclass(frozen=True, slots=True)
class Answer:
    """To a command; `body` is None where it is refused, or has none."""

    reply: Reply
    body: bytes | None = None


class Conversation:
    """Every method raises `UpstreamUnreachable` when the connection breaks or makes no sense."""

    def __init__(self, stream: Stream, memory: ServerMemory) -> None:
        self.stream = stream
        self.machine = Pop3Client()
        self.announces_pipelining = False
        self.progress = False
        """Whether a message has come whole."""
        self.probing = False
        """What is read next shows whether the body before it was whole; if not, that is no fault of
        pipelining."""
        self._memory = memory
        self._events: deque[Event] = deque()
        self._ahead = False
        self._in_batch = False
        """Commands went out together, and are not all answered yet."""

    @property
    def pipelines(self) -> bool:
        return self.announces_pipelining and self._memory.trust.holds(self._now())

    async def send(self, *requests: Request) -> None:
        """Send commands, whose answers are then to be taken in order."""
        self.check_in_step()
        commands = b"".join(self.machine.send(line, expect) for line, expect in requests)
        self._in_batch = self._in_batch or self.machine.outstanding > 1
        self._ahead = self._ahead or self._in_batch
        await self.stream.write(commands)

    async def exchange(self, *requests: Request) -> list[Answer]:
        """Send commands and take their answers: in one round trip, where the server pipelines."""
        answers: list[Answer] = []
        for batch in [requests] if self.pipelines else [[request] for request in requests]:
            await self.send(*batch)
            answers += [await self.answer(expect) for _, expect in batch]
        return answers

    async def answer(self, expect: Expect) -> Answer:
        """The next one, to a command that expects it so."""
        reply = await self.reply()
        has_body = expect is Expect.BODY and reply.ok
        return Answer(reply, await self._body() if has_body else None)

    async def ask(self, *lines: bytes) -> list[Reply]:
        """Commands with answers of one line."""
        return [a.reply for a in await self.exchange(*((line, Expect.LINE) for line in lines))]

    async def reply(self) -> Reply:
        event = await self.next_event()
        if not isinstance(event, Reply):
            raise UpstreamUnreachable("an answer of the wrong shape")
        return event

    async def next_event(self) -> Event:
        await self.wait_for_event()
        event = self._events.popleft()
        if not self._events and not self.machine.outstanding:
            self._in_batch = False
        return event

    async def wait_for_event(self) -> None:
        while not self._events:
            await self._read()

    def check_in_step(self) -> None:
        """What came behind the last answer would be taken for the next one.

        Raises:
            UpstreamGarbled
        """
        awaited = self._events or self.machine.outstanding
        if not awaited and (self.machine.has_unasked or self.stream.has_unread):
            raise UpstreamGarbled("an answer that nobody asked for")

    def ended_well(self) -> None:
        if self._ahead:
            self._memory.trust.went_well()

    async def _body(self) -> bytes:
        body = bytearray()
        while not isinstance(event := await self.next_event(), BodyEnd):
            if isinstance(event, Part):
                body += event.data
            if len(body) > LISTING_LIMIT:
                raise UpstreamUnreachable("a listing without end")
        return bytes(body)

    async def _read(self) -> None:
        if self.machine.broken is not None:
            self.blame_pipelining(ended=False)
            raise UpstreamGarbled(f"upstream broke the protocol: {self.machine.broken}")
        try:
            data = await self.stream.read()
            if not data:
                raise UpstreamUnreachable("upstream closed the connection")
        except UpstreamSilent:
            if not self.blame_pipelining(ended=False):
                self._memory.be_more_patient()
            raise
        except UpstreamUnreachable:
            self.blame_pipelining(ended=True)
            raise
        self._events.extend(self.machine.receive(data))

    def blame_pipelining(self, *, ended: bool) -> bool:
        """The session has broken: perhaps upstream cannot do what it announces."""
        if not self._in_batch or self.probing:
            return False
        self._memory.trust.failed(self._now(), progress=self.progress, ended=ended)
        return True

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
