"""One session with an upstream POP3 server: list, fetch, delete, quit.

Where the server pipelines, commands go out together, so that a step costs one round trip.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from proxy.domain.errors import (
    UpstreamBusy,
    UpstreamGarbled,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.fingerprint import HEADER_LIMIT
from proxy.domain.plan import Entry, Listing
from proxy.interfaces.world import UpstreamTls, World
from proxy.services.conversation import LISTING_LIMIT, Answer, Conversation, Request
from proxy.services.face import peer_of
from proxy.services.stream import Stream
from proxy.services.upstream_memory import ServerMemory
from proxy.services.upstream_refusal import refusal
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.listings import numbered, size
from proxy.wire.pop3 import Reply
from proxy.wire.pop3_client import BodyEnd, Expect, Part
from proxy.wire.scram_client import Binding

WINDOW_COMMANDS = 200
WINDOW_OCTETS = 2 * 1024 * 1024
"""How much is asked for ahead. Bounded in octets by what LIST said, so that a cut connection wastes
little; bounded in commands so that neither side's socket buffer fills with them (RFC 2449 §6.6)."""

SHORT = 0.9
"""A body with less than so much of what LIST said may have been cut off by a line of one dot.
Servers whose LIST is off by line ends stay above it."""

UID_LIMIT = 1000
"""Characters of an id that is still taken for one; RFC 1939 §7 allows 70."""


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


_CAPA: Request = (b"CAPA", Expect.BODY)
_STAT: Request = (b"STAT", Expect.LINE)
_LISTING: tuple[Request, ...] = ((b"LIST", Expect.BODY), (b"UIDL", Expect.BODY))

_OCTETS = re.compile(r"-?[0-9]+")
"""In STAT. Old servers count beyond 2 GiB into the negative numbers."""

Transfer = Began | Part | Ended | Refused


@dataclass(frozen=True, slots=True)
class Overview:
    """What STAT tells of a mailbox."""

    count: int
    octets: int | None
    """None: no number of octets can be so."""


class _Length:
    """Whether a body is as long as LIST said, as far as that can be believed."""

    def __init__(self, expected: int | None, *, pipelined: bool) -> None:
        self._expected = expected
        self._pipelined = pipelined
        self._octets = 0
        self._seam = b"\n"
        self._begins_like_an_answer = False

    def swallows_an_answer(self, part: bytes) -> bool:
        """To be asked for each part in order."""
        if not self._octets:
            self._begins_like_an_answer = part.startswith(b"+OK")
        seam = self._seam + part
        found = seam.rfind(b"\n+OK") if self._pipelined and self._expected is not None else -1
        at = self._octets - len(self._seam) + found + 1
        self._octets += len(part)
        self._seam = seam[-3:]
        # A last line end that upstream left out counts in LIST all the same.
        return found >= 0 and at > 0 and at + 1 >= (self._expected or 0)

    @property
    def is_shifted(self) -> bool:
        """Whether this is the answer to the next command, behind one that nobody asked for."""
        like = self._begins_like_an_answer and self._pipelined and self._expected is not None
        return like and self._octets != self._expected

    @property
    def is_short(self) -> bool:
        if self._expected is None:
            return False
        return not self._expected or self._octets < self._expected * SHORT


class UpstreamSession:
    """Use `open_session` to get one."""

    def __init__(self, stream: Stream, memory: ServerMemory) -> None:
        self._talk = Conversation(stream, memory)
        self.greeting_text = ""
        self.capabilities: dict[str, list[str]] = {}
        """Upper-case name → its parameters (RFC 2449 §5)."""
        self.encrypted = False
        self.binding: Binding | None = None
        self.mailbox: Overview | None = None
        """None: upstream has not shown yet that it has let us in."""
        self.suspect: Entry | None = None
        """The message behind which an answer was expected when `UpstreamGarbled` was raised."""
        self.current: Entry | None = None
        """The message that RETR was being answered for when the session broke."""
        self._listing_asked = False

    @property
    def peer(self) -> str:
        return peer_of(self._talk.stream.link)

    @property
    def pipelines(self) -> bool:
        return self._talk.pipelines

    @property
    def login_delay(self) -> float:
        """Seconds to leave between logins (RFC 2449 §6.5); 0 when upstream does not say."""
        parameters = self.capabilities.get("LOGIN-DELAY", [])
        return float(parameters[0]) if parameters and parameters[0].isdigit() else 0.0

    # --- up to the login ------------------------------------------------------------------------

    async def greeting(self) -> None:
        """Raises:
        UpstreamBusy, UpstreamUnusable: the server greets with -ERR.
        """
        reply = await self._talk.reply()
        if not reply.ok:
            raise refusal(reply, otherwise=UpstreamBusy(f"greeting: {reply.text}"))
        self.greeting_text = reply.text

    async def learn_capabilities(self) -> None:
        """CAPA; a server without it has none (RFC 2449 §3)."""
        (answer,) = await self._talk.exchange(_CAPA)
        self._note_capabilities(answer)

    async def start_tls(self, world: World, tls: UpstreamTls) -> None:
        (reply,) = await self.ask(b"STLS")
        if not reply.ok:
            raise UpstreamUnusable(f"upstream does not offer STLS: {reply.text}")
        try:
            self._talk.machine.tls_started()
        except RemoteProtocolError as error:
            raise UpstreamUnreachable(str(error)) from None
        stream = self._talk.stream
        upgraded = await world.network.start_upstream_tls(stream.link.transport, stream, tls)
        stream.tls_started(upgraded)
        self.tls_is_on(world)

    def tls_is_on(self, world: World) -> None:
        self.encrypted = True
        found = world.network.channel_binding(self._talk.stream.link.transport)
        self.binding = Binding(*found) if found else None

    async def ask(self, *lines: bytes) -> list[Reply]:
        """Send commands with answers of one line; together, where the server pipelines."""
        return await self._talk.ask(*lines)

    async def step(self, line: bytes) -> Reply:
        """Send a line of a SASL exchange; the answer may be a challenge."""
        (answer,) = await self._talk.exchange((line, Expect.STEP))
        return answer.reply

    # --- what is there --------------------------------------------------------------------------

    async def look(self, *, listing: bool) -> Reply:
        """The first look after a login: the answer to STAT, which sets `mailbox` if it is one.

        `listing`: `listing` will follow in any case, so it is asked for as well where that saves a
        round trip.

        Raises:
            UpstreamUnreachable: the answers make no sense.
        """
        talk = self._talk
        # RFC 2449 §5: capabilities may differ after the login.
        capa = [_CAPA] if self.capabilities else []
        self._listing_asked = listing and talk.pipelines
        ahead = [*capa, *(_LISTING if self._listing_asked else ())] if talk.pipelines else []
        await talk.send(_STAT, *ahead)
        stat = (await talk.answer(Expect.LINE)).reply
        words = [*stat.text.split(), "", ""]
        count = size(words[0])
        if not stat.ok or count is None or not _OCTETS.fullmatch(words[1]):
            if not stat.code:
                # Answers in another order than the commands look like this too.
                talk.blame_pipelining(ended=False)
            return stat
        if capa:
            if not ahead:
                await talk.send(_CAPA)
            self._note_capabilities(await talk.answer(Expect.BODY))
        talk.check_in_step()
        self.mailbox = Overview(count, size(words[1]))
        return stat

    async def uid_of(self, number: int) -> str | None:
        """The UIDL of one message; None where upstream has no UIDL."""
        (reply,) = await self.ask(b"UIDL %d" % number)
        return reply.text.partition(" ")[2].strip() if reply.ok else None

    async def listing(self, count: int) -> Listing:
        """LIST and UIDL together, in order. Without UIDL every uid is "".

        Raises:
            UpstreamUnreachable: the answer makes no sense.
        """
        if self._listing_asked:
            self._listing_asked = False
            listed = [await self._talk.answer(expect) for _, expect in _LISTING]
        else:
            listed = await self._talk.exchange(*_LISTING)
        return _listing(count, *listed)

    # --- messages -------------------------------------------------------------------------------

    def retrieve(self, entries: Iterable[Entry]) -> AsyncGenerator[Transfer, None]:
        """RETR of each, in order; an entry is taken when it is about to be asked for."""
        return self._transfers(
            (entry, b"RETR %d" % entry.number, entry.octets) for entry in entries
        )

    async def headers(
        self, entries: Iterable[Entry]
    ) -> AsyncGenerator[tuple[Entry, bytes | None], None]:
        """The header of each by TOP, in order; None where upstream refuses."""
        requests = ((entry, b"TOP %d 0" % entry.number, None) for entry in entries)
        header = bytearray()
        octets = 0
        async with aclosing(self._transfers(requests)) as transfers:
            async for transfer in transfers:
                if isinstance(transfer, Part):
                    # What TOP sends beyond a header's limit is of no use to anybody.
                    header += transfer.data[: max(HEADER_LIMIT - len(header), 0)]
                    octets += len(transfer.data)
                    if octets > LISTING_LIMIT:
                        raise UpstreamUnreachable("a header without end")
                elif isinstance(transfer, Ended):
                    yield transfer.entry, bytes(header)
                    header.clear()
                    octets = 0
                elif isinstance(transfer, Refused):
                    yield transfer.entry, None

    async def delete(self, numbers: Iterable[int]) -> list[int]:
        """DELE each; returns those that upstream accepted. They count only after `quit`."""
        accepted: list[int] = []
        waiting = list(numbers)
        while waiting:
            batch, waiting = waiting[:WINDOW_COMMANDS], waiting[WINDOW_COMMANDS:]
            replies = await self.ask(*(b"DELE %d" % number for number in batch))
            accepted += [n for n, reply in zip(batch, replies, strict=True) if reply.ok]
        return accepted

    async def quit(self) -> bool:
        """Whether upstream answered +OK, and so has done what DELE asked for (RFC 1939 §6)."""
        try:
            (reply,) = await self.ask(b"QUIT")
        except BaseException:
            # Whoever does without the answer does without the connection too.
            self.abort()
            raise
        self._talk.stream.close()
        self._talk.ended_well()
        return reply.ok

    def abort(self) -> None:
        """Drop the connection; upstream deletes nothing."""
        self._talk.stream.abort()

    async def _transfers(
        self, requests: Iterable[tuple[Entry, bytes, int | None]]
    ) -> AsyncGenerator[Transfer, None]:
        """Send each command, ahead where upstream allows it, and give out the bodies.

        A request is an entry, its command, and the octets the answer is expected to have (0: not
        known; None: that of TOP, which does not matter). A body that is much shorter counts only
        when what follows it is an answer again: a server that forgets to stuff a line of one dot
        ends the body there and goes on with the message. One that goes on with a line like an
        answer has swallowed that answer: its own end was none.

        Raises:
            UpstreamGarbled: either; `suspect` is the message in the first case.
        """
        talk = self._talk
        ahead = WINDOW_COMMANDS if talk.pipelines else 1
        waiting = iter(requests)
        following = True
        asked: deque[tuple[Entry, int | None]] = deque()
        octets = 0
        while True:
            batch: list[Request] = []
            while following and len(asked) < ahead and (not asked or octets < WINDOW_OCTETS):
                request = next(waiting, None)
                if request is None:
                    following = False
                    break
                entry, command, expected = request
                batch.append((command, Expect.BODY))
                asked.append((entry, expected))
                octets += expected or 0
            if batch:
                await talk.send(*batch)
            if not asked:
                return
            entry, expected = asked[0]
            self.current = entry if expected is not None else None
            reply = await talk.reply()
            if reply.ok:
                yield Began(entry)
                length = _Length(expected, pipelined=len(asked) > 1)
                while not isinstance(event := await talk.next_event(), BodyEnd):
                    if isinstance(event, Part):
                        if length.swallows_an_answer(event.data):
                            talk.blame_pipelining(ended=False)
                            raise UpstreamGarbled("the end of a message cannot be seen")
                        yield event
                if length.is_shifted:
                    talk.blame_pipelining(ended=False)
                    raise UpstreamGarbled("an answer that nobody asked for")
                if length.is_short:
                    await self._check_what_follows(entry, pipelined=len(asked) > 1)
                talk.progress = True
            self.current = None
            asked.popleft()
            octets -= expected or 0
            yield Ended(entry) if reply.ok else Refused(entry, reply.text)

    async def _check_what_follows(self, entry: Entry, *, pipelined: bool) -> None:
        """Raises:
        UpstreamGarbled: the octets behind a body are no answer; `suspect` is the message.
        """
        self.suspect = entry
        self._talk.probing = True
        if pipelined:
            await self._talk.wait_for_event()
        else:
            # Were the rest of the message to come, it would come in front of this answer.
            await self.ask(b"NOOP")
        self._talk.probing = False
        self.suspect = None

    def _note_capabilities(self, answer: Answer) -> None:
        self.capabilities = {}
        for line in (answer.body or b"").decode("ascii", "replace").split("\r\n"):
            name, *parameters = line.upper().split() or [""]
            if name:
                self.capabilities[name] = parameters
        self._talk.announces_pipelining = "PIPELINING" in self.capabilities


def _listing(count: int, sizes: Answer, uids: Answer) -> Listing:
    """Raises:
    UpstreamUnreachable: there is none, or it makes no sense.
    """
    if sizes.body is None:
        refused = UpstreamUnreachable(f"upstream refuses LIST: {sizes.reply.text}")
        error = refusal(sizes.reply, otherwise=refused)
        if count or error is not refused:
            raise error
        # "No messages", says many a server of an empty mailbox.
        return Listing([], sound=not uids.body)
    try:
        by_size, sound = numbered(sizes.body)
        by_uid, uids_sound = numbered(uids.body or b"")
    except RemoteProtocolError as error:
        raise UpstreamUnreachable(str(error)) from None
    octets = {number: size(rest) for number, rest in by_size.items()}
    entries = [
        Entry(number, octets.get(number) or 0, _usable(by_uid.get(number, "")))
        for number in sorted(by_size.keys() | by_uid.keys())
    ]
    agree = uids.body is None or by_size.keys() == by_uid.keys()
    sound = sound and uids_sound and agree and None not in octets.values()
    return Listing(entries, sound=sound and len(entries) == count)


def _usable(uid: str) -> str:
    return uid if len(uid) <= UID_LIMIT else ""
