"""The client's side of POP3 without I/O: commands in, octets out; octets in, events out.

Each command is sent with the shape of answer it expects; answers are matched to commands in order,
so pipelining needs nothing more. A line nobody waits for is the peer's fault.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from proxy.wire.dots import DotDecoder
from proxy.wire.errors import RemoteProtocolError
from proxy.wire.lines import TOO_LONG, CrlfNormaliser, LineBuffer
from proxy.wire.pop3 import REPLY_LINE_LIMIT, Reply, parse_reply


class Expect(Enum):
    """The shape of an answer."""

    LINE = "line"
    STEP = "step"
    """To a line of a SASL exchange: one line as well, which may be a challenge (RFC 5034 §4)."""
    BODY = "body"
    """+OK is followed by lines up to a single dot."""


@dataclass(frozen=True, slots=True)
class Part:
    """Octets of a body: unstuffed, every line end CRLF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """The body is complete."""


Event = Reply | Part | BodyEnd


class Pop3Client:
    """One connection's machine, starting with the wait for the greeting."""

    def __init__(self) -> None:
        self._outstanding: deque[Expect] = deque([Expect.LINE])
        self._lines = LineBuffer()
        self._normalise_input: CrlfNormaliser | None = None
        self._greeted = False
        self._decoder: DotDecoder | None = None
        self._normalise_body = CrlfNormaliser()
        self.broken: RemoteProtocolError | None = None
        """Set when the peer has broken the protocol behind the events given out last."""

    @property
    def outstanding(self) -> int:
        """Answers that are awaited, the one under way included."""
        return len(self._outstanding) + (self._decoder is not None)

    @property
    def has_unasked(self) -> bool:
        """Whether octets have come that belong to no answer; to be asked when none is awaited."""
        return self.broken is not None or len(self._lines) > 0

    def send(self, line: bytes, expect: Expect = Expect.LINE) -> bytes:
        """Register a command (or a SASL response) and return its octets.

        Raises:
            ValueError: the line holds a line end, which would smuggle a second command.
        """
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command cannot hold CR, LF or NUL")
        self._outstanding.append(expect)
        return line + b"\r\n"

    def receive(self, data: bytes) -> list[Event]:
        """Take octets from the peer and return what they complete.

        Events in front of a breach of the protocol are given out like all others; the breach is in
        `broken` afterwards, and nothing more is taken.
        """
        events: list[Event] = []
        if self.broken is None:
            try:
                self._take(data, events)
            except RemoteProtocolError as error:
                self.broken = error
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        if self._normalise_input is not None:
            data = self._normalise_input.feed(data)
        while data or len(self._lines):
            if self._decoder is not None:
                data = self._body(self._lines.take_all() + data, events)
                continue
            self._lines.feed(data)
            data = b""
            if not self._status_line(events):
                break

    def tls_started(self) -> None:
        """Raises:
        RemoteProtocolError: clear text was sent behind the answer to STLS, as an attacker would.
        """
        if self.broken is not None or len(self._lines):
            raise RemoteProtocolError("octets in clear text behind the answer to STLS")

    def _status_line(self, events: list[Event]) -> bool:
        """Read one status line, if a whole one is there."""
        if not self._greeted:
            self._learn_line_end()
        line = self._lines.next_line(REPLY_LINE_LIMIT)
        if line is None and not self._lines.overflowing:
            return False
        if line is None or line is TOO_LONG:
            raise RemoteProtocolError("a status line that is too long")
        if not self._outstanding:
            raise RemoteProtocolError("an answer that nobody asked for")
        reply = parse_reply(line)
        if reply is None:
            raise RemoteProtocolError("not a POP3 status line")
        self._greeted = True
        expect = self._outstanding.popleft()
        if reply.challenge and expect is Expect.LINE:
            raise RemoteProtocolError("a challenge where no exchange is under way")
        events.append(reply)
        if expect is Expect.BODY and reply.ok:
            self._decoder = DotDecoder()
            self._normalise_body = CrlfNormaliser()
        return True

    def _learn_line_end(self) -> None:
        """A server whose greeting ends in a bare LF ends all lines so; every other means CRLF."""
        waiting = self._lines.take_all()
        end = waiting.find(b"\n")
        if end >= 0 and waiting[max(end - 1, 0) : end] != b"\r":
            self._normalise_input = CrlfNormaliser()
            waiting = self._normalise_input.feed(waiting)
        self._lines.feed(waiting)

    def _body(self, data: bytes, events: list[Event]) -> bytes:
        """Feed the body under way; returns what follows it."""
        assert self._decoder is not None  # noqa: S101 - the caller has looked
        part, rest = self._decoder.feed(data)
        part = self._normalise_body.feed(part)
        if part:
            events.append(Part(part))
        if rest is None:
            return b""
        events.append(BodyEnd())
        self._decoder = None
        return rest
