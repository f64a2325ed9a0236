"""What the machines of servers have in common whose commands are lines: POP3's and SMTP's.

Beside octets and events that is logging in by SASL, whose steps differ in nothing but the mark that
a challenge begins with, and what becomes of a session when TLS begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from proxy.wire import mechanisms, sasl
from proxy.wire.errors import LocalProtocolError
from proxy.wire.lines import TOO_LONG, LineBuffer, TooLong
from proxy.wire.pop3 import COMMAND_LINE_LIMIT, SASL_LINE_LIMIT
from proxy.wire.pop3_events import LoginEvent, ScramStart
from proxy.wire.scram import ScramKeys

OUTPUT_LIMIT = 64 * 1024
"""Octets of answers that wait to be sent: a client that reads nothing is answered no further."""

Event = TypeVar("Event")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOffer:
    """What a server offers on one connection, and how much it puts up with."""

    plaintext_login: bool
    """Whether logins without TLS are taken."""
    scram: bool = False
    """Whether SCRAM is announced; it is taken in any case."""
    max_errors: int = 20
    """Commands refused in one session before we hang up; Dovecot gives up after 20 as well."""
    line_limit: int = COMMAND_LINE_LIMIT
    """Octets of a command."""


class LineServer(Generic[Event]):
    """Octets in, events out; replies in, octets out.

        machine.receive(data)
        while (event := machine.next_event()) is not None:
            ... answer it ...
        send(machine.data_to_send())

    An event is owed an answer: until that is given, `next_event` returns None and pipelined
    commands wait as octets.
    """

    challenge_mark: ClassVar[bytes]
    """What a line with a challenge begins with."""

    def __init__(self, offer: LineOffer, too_many_errors: Event) -> None:
        """`too_many_errors` is the event that `offer.max_errors` refused commands give."""
        self.tls = False
        self._offer = offer
        self._certificate = False
        self._end_point: bytes | None = None
        self._exchange: mechanisms.Mechanism | None = None
        self._lines = LineBuffer()
        self._owed: Event | None = None
        self._errors = 0
        self._too_many_errors = too_many_errors
        self._output: list[bytes] = []
        self._output_octets = 0

    def greet(self, text: str) -> None:
        raise NotImplementedError

    def _read_on(self) -> bool:
        """Use what was received next; False: it is not all there yet. An event goes to `_owed`."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Take what came from the peer."""
        self._lines.feed(data)

    @property
    def waiting_octets(self) -> int:
        """Octets received that no event has used yet; the driver bounds them."""
        return len(self._lines)

    @property
    def output_octets(self) -> int:
        """Octets that `data_to_send` would return."""
        return self._output_octets

    def data_to_send(self) -> bytes:
        data = b"".join(self._output)
        self._output.clear()
        self._output_octets = 0
        return data

    def next_event(self) -> Event | None:
        """The next thing to decide.

        None: an answer is owed, nothing whole is there, or `OUTPUT_LIMIT` octets are to be sent
        first.
        """
        while self._owed is None and self._output_octets < OUTPUT_LIMIT:
            if not self._read_on():
                return None
            if self._errors >= self._offer.max_errors and self._owed is None:
                self._owed = self._too_many_errors
            if self._owed is not None:
                return self._owed
        return None

    def _put(self, data: bytes) -> None:
        self._output.append(data)
        self._output_octets += len(data)

    def _answer(self, data: bytes) -> None:
        if self._owed is None:
            raise LocalProtocolError("nothing to answer")
        self._owed = None
        self._put(data)

    def _next_line(self) -> bytes | TooLong | None:
        """None: no whole line is there yet. One that is too long ends the exchange."""
        line = self._lines.next_line(SASL_LINE_LIMIT if self._exchange else self._offer.line_limit)
        if line is TOO_LONG:
            self._exchange = None
        return line

    # --- TLS ------------------------------------------------------------------------------------

    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        """All that was learnt in clear is forgotten (RFC 2595 §4, RFC 3207 §4.2).

        `certificate` tells whether the client has shown one that we trust; `end_point` is the
        channel binding tls-server-end-point (RFC 5929 §4).
        """
        self._lines.clear()
        self.tls = True
        self._certificate = certificate
        self._end_point = end_point

    # --- logging in -----------------------------------------------------------------------------

    @property
    def _login_allowed(self) -> bool:
        return self.tls or self._offer.plaintext_login

    def _announced(self) -> list[str]:
        return mechanisms.announced(scram=self._offer.scram, certificate=self._certificate)

    def _mechanism(self, word: bytes) -> mechanisms.Mechanism:
        """Raises:
        SaslError: there is none of this name.
        """
        return mechanisms.named(
            word.decode("ascii", "replace").upper(),
            certificate=self._certificate,
            end_point=self._end_point,
        )

    def _cancelled(self, line: bytes) -> bool:
        """Whether the client gives up the exchange under way (RFC 4954 §4, RFC 5034 §4)."""
        if line == b"*":
            self._exchange = None
        return line == b"*"

    def _respond(self, line: bytes) -> LoginEvent | ScramStart | None:
        """A response to the challenge before it.

        Raises:
            SaslError: it makes no sense, and the exchange is over.
        """
        exchange, self._exchange = self._exchange, None
        assert exchange is not None  # noqa: S101 - callers have one under way
        return self._step(exchange, sasl.decode(line))

    def _step(
        self, exchange: mechanisms.Mechanism, response: bytes | None
    ) -> LoginEvent | ScramStart | None:
        step = exchange.step(response)
        if isinstance(step, mechanisms.Challenge):
            self._exchange = exchange
            self._put(b"%s%s\r\n" % (self.challenge_mark, sasl.encode(step.data)))
            return None
        if isinstance(step, ScramStart):
            self._exchange = exchange
        return step

    def scram_challenge(
        self, nonce: str, salt: bytes, iterations: int, candidates: Sequence[ScramKeys]
    ) -> None:
        """Answer `ScramStart`: the keys this user's client may prove to know, all under one salt.

        `nonce` is printable ASCII without a comma and must never be used twice.
        """
        exchange = self._exchange
        if not isinstance(exchange, mechanisms.Scram):
            raise LocalProtocolError("no SCRAM exchange is under way")
        challenge = exchange.challenge(nonce, salt, iterations, candidates)
        self._answer(b"%s%s\r\n" % (self.challenge_mark, sasl.encode(challenge.data)))
