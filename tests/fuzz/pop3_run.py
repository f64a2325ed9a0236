"""A driver that takes the server machine through one planned session, with the oracle beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle

from proxy.wire import pop3_events as pop3
from proxy.wire import sasl
from proxy.wire.dots import DotEncoder
from proxy.wire.line_server import OUTPUT_LIMIT
from proxy.wire.pop3 import Expire
from proxy.wire.pop3_server import Offer, Pop3Server
from proxy.wire.scram import scram_keys
from tests.fuzz.checks import expect
from tests.fuzz.ledger import Ledger, check_status
from tests.fuzz.plan import Plan

PASSWORDS = (b"pencil", b"p\xc3\xa4ss, word")
SALT = b"salt of all keys"
ITERATIONS = 2
KEYS = tuple(scram_keys(password, SALT, ITERATIONS) for password in PASSWORDS)
END_POINT = hashlib.sha256(b"a certificate").digest()

MAILS = (
    b"Subject: a\r\n\r\nbody\r\n",
    b".\r\n..\r\n.x\r\n\r\n",
    b"",
    b"Subject: bare\n.\n\r.\r\r\n.\xff\0" + b"y" * 700 + b"\r\n",
)

Make = Callable[[Offer], Pop3Server]


def server_nonce(number: int) -> str:
    return f"nonce-{number:04}"


@dataclass(slots=True)
class Transcript:
    """What the world saw of a session."""

    events: list[pop3.Event] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)

    @property
    def upgraded(self) -> bool:
        return any(isinstance(event, pop3.StartTls) for event in self.events)


class Run:
    """One session from the greeting to its end, or to the last octet of the plan."""

    def __init__(self, plan: Plan, make: Make = Pop3Server) -> None:
        self._plan = plan
        self._machine = make(plan.offer)
        self._ledger = Ledger(plan.offer)
        self._pieces = plan.pieces()
        self._decisions = cycle(plan.decisions)
        self._transcript = Transcript()
        self._scrams = 0
        self._over = False

    def play(self) -> Transcript:
        if self._plan.tls:
            self._start_tls()
        self._machine.greet("ready")
        expect(self._sent() == b"+OK ready\r\n", "another greeting")
        self._turn()
        while not self._over and self._receive():
            self._turn()
        return self._transcript

    def _receive(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        before = self._machine.waiting_octets
        self._machine.receive(piece)
        expect(self._machine.waiting_octets == before + len(piece), "octets lost or won")
        self._ledger.fed(piece)
        return True

    def _turn(self) -> None:
        while not self._over:
            event = self._machine.next_event()
            waiting = self._machine.waiting_octets
            sent = self._sent()
            self._ledger.own(sent)
            if event is None and len(sent) >= OUTPUT_LIMIT:
                continue
            if event is None:
                self._ledger.settled(waiting)
                return
            self._ledger.event(event)
            self._transcript.events.append(event)
            expect(self._machine.next_event() is None, "two events at once")
            self._answer(event)

    def _sent(self) -> bytes:
        octets = self._machine.output_octets
        data = self._machine.data_to_send()
        expect(len(data) == octets, "output_octets is another count")
        self._transcript.output += data
        return data

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, event: pop3.Event) -> None:
        decision = next(self._decisions)
        match event:
            case pop3.PasswordLogin() | pop3.CertificateLogin():
                self._login(granted=decision % 2 == 0)
            case pop3.ScramLogin(candidate):
                self._login(granted=decision % 2 == 0 and candidate is not None)
            case pop3.ScramStart():
                self._scram(decision)
            case pop3.StartTls():
                self._machine.start_tls()
                self._heard(b"+OK begin TLS\r\n")
                expect(self._machine.next_event() is None, "something in clear behind STLS counts")
                self._start_tls()
            case pop3.Quit():
                self._ok("bye")
                self._over = True
            case pop3.TooManyErrors() | pop3.HttpBegun():
                # The reply is to no line: it goes to a peer that is about to be cut off.
                self._machine.err("goodbye")
                expect(self._sent() == b"-ERR goodbye\r\n", "another reply than was given")
                self._over = True
            case pop3.Retr() | pop3.Top() if decision % 2 == 0:
                self._mail(decision)
            case pop3.List(None) | pop3.Uidl(None):
                self._machine.body_start("2 messages")
                self._machine.body_part(b"1 60\r\n2 700\r\n")
                self._machine.body_end()
                self._heard(b"+OK 2 messages\r\n1 60\r\n2 700\r\n.\r\n")
            case _ if decision % 2 == 0:
                self._ok("2 760" if decision % 4 else "")
            case _:
                self._err("no such message")

    def _heard(self, expected: bytes) -> None:
        """The driver's own reply went out as it was meant."""
        expect(self._sent() == expected, "another reply than was given")
        self._ledger.answered()

    def _ok(self, text: str) -> None:
        self._machine.ok(text)
        self._heard(f"+OK {text}\r\n".encode() if text else b"+OK\r\n")

    def _err(self, text: str, code: str = "") -> None:
        self._machine.err(text, code)
        self._heard(f"-ERR {f'[{code}] ' if code else ''}{text}\r\n".encode())

    def _login(self, *, granted: bool) -> None:
        if not granted:
            self._err("no", "AUTH")
            return
        self._machine.logged_in("welcome", Expire(7))
        expect(self._sent() == b"+OK welcome\r\n", "another reply than was given")
        self._ledger.logged_in()

    def _scram(self, decision: int) -> None:
        if decision % 2:
            self._err("not now", "SYS/TEMP")
            return
        candidates = KEYS[decision >> 1 & 3 :]
        self._scrams += 1
        self._machine.scram_challenge(server_nonce(self._scrams), SALT, ITERATIONS, candidates)
        challenge = self._sent()
        expect(challenge.endswith(b"\r\n"), "a challenge does not end in CRLF")
        check_status(challenge[:-2])
        ours = f"{server_nonce(self._scrams)},s={sasl.encode(SALT).decode()},i={ITERATIONS}"
        expect(sasl.decode(challenge[2:-2]).endswith(ours.encode()), "another challenge")
        self._ledger.challenged(len(candidates))

    def _start_tls(self) -> None:
        self._machine.tls_started(
            certificate=self._plan.certificate,
            end_point=END_POINT if self._plan.end_point else None,
        )
        self._ledger.tls_started(certificate=self._plan.certificate)
        expect(self._machine.waiting_octets == 0, "something in clear waits behind TLS")

    def _mail(self, decision: int) -> None:
        """In parts; the peer may go on sending meanwhile."""
        mail = MAILS[decision >> 1 & 3]
        self._machine.body_start("here it is")
        said = self._sent()
        encoder = DotEncoder()
        size = 1 + (decision >> 3)
        for start in range(0, len(mail), size * 16):
            self._machine.body_part(encoder.feed(mail[start : start + size * 16]))
            expect(self._machine.next_event() is None, "an event within a body")
            said += self._sent()
        if decision & 0x80:
            self._receive()
            expect(self._machine.next_event() is None, "an event within a body")
        self._machine.body_end()
        said += self._sent()
        expect(said == b"+OK here it is\r\n%b.\r\n" % DotEncoder().feed(mail), "another body")
        self._ledger.answered()
