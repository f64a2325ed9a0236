"""The server's side of POP3 without I/O: octets in, events out; replies in, octets out.

    machine.receive(data)
    while (event := machine.next_event()) is not None:
        ... answer it with ok(), err(), lines() or body_*() ...
    send(machine.data_to_send())

An event is owed an answer: until that is given, `next_event` returns None and pipelined commands
wait as octets (RFC 2449 §6.6). What needs no decision from outside the machine answers itself:
syntax, order of commands, CAPA, NOOP, the steps of a SASL exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from proxy.wire import sasl
from proxy.wire.dots import TERMINATOR
from proxy.wire.errors import LocalProtocolError
from proxy.wire.lines import TOO_LONG, LineBuffer
from proxy.wire.pop3 import COMMAND_LINE_LIMIT, SASL_LINE_LIMIT

MAX_ERRORS = 20
"""Commands refused in one session before we hang up; Dovecot gives up after 20 as well."""


class State(Enum):
    """RFC 1939 §3."""

    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Login:
    """USER and PASS, or a finished AUTH. Answer with `logged_in` or `err`."""

    username: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTls:
    """Answer with `start_tls`, send, upgrade, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Stat:
    pass


@dataclass(frozen=True, slots=True)
class List:
    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    number: int


@dataclass(frozen=True, slots=True)
class Top:
    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    number: int


@dataclass(frozen=True, slots=True)
class Rset:
    pass


@dataclass(frozen=True, slots=True)
class Quit:
    """`update` tells whether there is a transaction to commit (RFC 1939 §6)."""

    update: bool


@dataclass(frozen=True, slots=True)
class TooManyErrors:
    """The peer does not speak POP3. Answer with `err` and hang up."""


Event = Login | StartTls | Stat | List | Uidl | Retr | Top | Dele | Rset | Quit | TooManyErrors


class _Syntax(Exception):
    """A malformed command; the text is for the client."""


class Pop3Server:
    """One session's machine. Not to be used again after `Quit` or `TooManyErrors`."""

    def __init__(self, *, stls: bool, plaintext_login: bool, implementation: str) -> None:
        self.state = State.AUTHORIZATION
        self.tls = False
        self._stls = stls
        self._plaintext_login = plaintext_login
        self._implementation = implementation
        self._lines = LineBuffer()
        self._output: list[bytes] = []
        self._output_octets = 0
        self._owed: Event | None = None
        self._errors = 0
        self._username: str | None = None
        self._exchange: sasl.Mechanism | None = None

    # --- octets ---------------------------------------------------------------------------------

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
        """The next thing to decide, or None: an answer is owed, or no whole line is there."""
        while self._owed is None:
            limit = SASL_LINE_LIMIT if self._exchange else COMMAND_LINE_LIMIT
            line = self._lines.next_line(limit)
            if line is None:
                return None
            if line is TOO_LONG:
                self._exchange = None
                self._refuse("line too long")
            elif self._exchange is not None:
                self._sasl_response(line)
            else:
                self._command(line)
            if self._errors >= MAX_ERRORS and self._owed is None:
                self._owed = TooManyErrors()
            if self._owed is not None:
                return self._owed
        return None

    # --- answers --------------------------------------------------------------------------------

    def greet(self, text: str) -> None:
        self._put(b"+OK %s\r\n" % text.encode())

    def ok(self, text: str = "") -> None:
        self._answer(b"+OK %s\r\n" % text.encode() if text else b"+OK\r\n")

    def err(self, text: str, code: str = "") -> None:
        """`code` is a response code without its brackets (RFC 2449 §8)."""
        prefix = f"[{code}] " if code else ""
        self._answer(b"-ERR %s%s\r\n" % (prefix.encode(), text.encode()))

    def lines(self, text: str, lines: bytes) -> None:
        """A multi-line answer; each line in `lines` ends in CRLF and none begins with a dot."""
        self._answer(b"+OK %s\r\n%s.\r\n" % (text.encode(), lines))

    def body_start(self, text: str) -> None:
        """Begin a multi-line answer that comes in parts; the event stays owed until `body_end`."""
        self._put(b"+OK %s\r\n" % text.encode())

    def body_part(self, stuffed: bytes) -> None:
        self._put(stuffed)

    def body_end(self) -> None:
        """The octets before this ended in CRLF, or there were none."""
        self._answer(TERMINATOR)

    def logged_in(self, text: str) -> None:
        """Answer a `Login` with success."""
        self.state = State.TRANSACTION
        self.ok(text)

    def start_tls(self) -> None:
        """Answer `StartTls`; whatever the peer sent in clear behind STLS is thrown away."""
        self.ok("begin TLS")
        self._lines.clear()

    def tls_started(self) -> None:
        """All that was learnt in clear is forgotten (RFC 2595 §4)."""
        self._lines.clear()
        self._username = None
        self.tls = True

    # --- within ---------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        self._output.append(data)
        self._output_octets += len(data)

    def _answer(self, data: bytes) -> None:
        if self._owed is None:
            raise LocalProtocolError("nothing to answer")
        self._owed = None
        self._put(data)

    def _refuse(self, text: str) -> None:
        self._errors += 1
        self._put(b"-ERR %s\r\n" % text.encode())

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        entry = _COMMANDS.get(verb.upper())
        if entry is None:
            self._refuse("unknown command")
            return
        states, handle = entry
        if self.state not in states:
            self._refuse(f"not possible in the {self.state.value} state")
            return
        try:
            self._owed = handle(self, rest)
        except _Syntax as error:
            self._refuse(str(error))

    @property
    def _login_allowed(self) -> bool:
        return self.tls or self._plaintext_login

    def _check_login_allowed(self) -> None:
        if not self._login_allowed:
            hint = "use STLS first" if self._stls else "use the TLS port"
            raise _Syntax(f"logins in clear text are not allowed here: {hint}")

    def _capa(self, rest: bytes) -> None:
        _no_arguments(rest)
        capabilities = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"]
        if self.state is State.AUTHORIZATION:
            if self._login_allowed:
                capabilities += ["USER", "SASL " + " ".join(sasl.MECHANISMS)]
            if self._stls and not self.tls:
                capabilities.append("STLS")
        # RFC 2449 §6.9: the name without a version until the peer has logged in.
        name = self._implementation
        capabilities.append(
            "IMPLEMENTATION " + (name.split("/")[0] if self.state is State.AUTHORIZATION else name)
        )
        lines = "".join(f"{capability}\r\n" for capability in capabilities)
        self._put(f"+OK capability list follows\r\n{lines}.\r\n".encode())

    def _noop(self, rest: bytes) -> None:
        self._put(b"+OK\r\n")

    def _user(self, rest: bytes) -> None:
        self._check_login_allowed()
        try:
            self._username = sasl.decode_name(rest.strip())
        except sasl.SaslError as error:
            raise _Syntax(str(error)) from None
        self._put(b"+OK send PASS\r\n")

    def _pass(self, rest: bytes) -> Event:
        self._check_login_allowed()
        if self._username is None:
            raise _Syntax("send USER first")
        username, self._username = self._username, None
        # The password may hold spaces: RFC 1939 §7.
        return Login(username, rest)

    def _auth(self, rest: bytes) -> Event | None:
        self._check_login_allowed()
        words = rest.split()
        if not words:
            # Outlook Express and others ask so for the mechanisms.
            names = "".join(f"{name}\r\n" for name in sasl.MECHANISMS)
            self._put(f"+OK mechanisms follow\r\n{names}.\r\n".encode())
            return None
        mechanism = sasl.MECHANISMS.get(words[0].decode("ascii", "replace").upper())
        if mechanism is None:
            raise _Syntax("unknown authentication mechanism")
        if len(words) > 2:
            raise _Syntax("too many arguments")
        self._exchange = mechanism()
        if len(words) == 1:
            return self._sasl_step(None)
        # RFC 5034 §4: "=" stands for an initial response of no octets.
        return self._sasl_step(b"" if words[1] == b"=" else words[1], encoded=words[1] != b"=")

    def _sasl_response(self, line: bytes) -> None:
        if line == b"*":
            self._exchange = None
            self._refuse("authentication cancelled")
            return
        try:
            self._owed = self._sasl_step(line)
        except _Syntax as error:
            self._refuse(str(error))

    def _sasl_step(self, response: bytes | None, *, encoded: bool = True) -> Event | None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None  # noqa: S101 - callers have one under way
        try:
            data = sasl.decode(response) if response is not None and encoded else response
            step = exchange.step(data)
        except sasl.SaslError as error:
            raise _Syntax(str(error)) from None
        if isinstance(step, sasl.Identity):
            return Login(step.username, step.password)
        self._exchange = exchange
        self._put(b"+ %s\r\n" % sasl.encode(step.data))
        return None

    def _stls_command(self, rest: bytes) -> Event:
        _no_arguments(rest)
        if self.tls:
            raise _Syntax("TLS is active already")
        if not self._stls:
            raise _Syntax("TLS is not available")
        return StartTls()

    def _quit(self, rest: bytes) -> Event:
        _no_arguments(rest)
        update = self.state is State.TRANSACTION
        self.state = State.UPDATE
        return Quit(update)

    def _stat(self, rest: bytes) -> Event:
        _no_arguments(rest)
        return Stat()

    def _list(self, rest: bytes) -> Event:
        return List(_optional_number(rest))

    def _uidl(self, rest: bytes) -> Event:
        return Uidl(_optional_number(rest))

    def _retr(self, rest: bytes) -> Event:
        (number,) = _numbers(rest, 1)
        return Retr(number)

    def _top(self, rest: bytes) -> Event:
        number, lines = _numbers(rest, 2)
        return Top(number, lines)

    def _dele(self, rest: bytes) -> Event:
        (number,) = _numbers(rest, 1)
        return Dele(number)

    def _rset(self, rest: bytes) -> Event:
        _no_arguments(rest)
        return Rset()


def _no_arguments(rest: bytes) -> None:
    if rest.strip():
        raise _Syntax("no arguments expected")


def _numbers(rest: bytes, count: int) -> list[int]:
    words = rest.split()
    if len(words) != count:
        raise _Syntax(f"expected {count} number{'s' if count > 1 else ''}")
    for word in words:
        # 10 digits hold every message number and line count; more would only cost time.
        if not word.isdigit() or len(word) > 10:
            raise _Syntax("not a number")
    return [int(word) for word in words]


def _optional_number(rest: bytes) -> int | None:
    return _numbers(rest, 1)[0] if rest.strip() else None


_BEFORE = frozenset({State.AUTHORIZATION})
_AFTER = frozenset({State.TRANSACTION})
_BOTH = _BEFORE | _AFTER

_COMMANDS: dict[bytes, tuple[frozenset[State], Callable[[Pop3Server, bytes], Event | None]]] = {
    b"CAPA": (_BOTH, Pop3Server._capa),
    b"USER": (_BEFORE, Pop3Server._user),
    b"PASS": (_BEFORE, Pop3Server._pass),
    b"AUTH": (_BEFORE, Pop3Server._auth),
    b"STLS": (_BEFORE, Pop3Server._stls_command),
    b"QUIT": (_BOTH, Pop3Server._quit),
    b"STAT": (_AFTER, Pop3Server._stat),
    b"LIST": (_AFTER, Pop3Server._list),
    b"UIDL": (_AFTER, Pop3Server._uidl),
    b"RETR": (_AFTER, Pop3Server._retr),
    b"TOP": (_AFTER, Pop3Server._top),
    b"DELE": (_AFTER, Pop3Server._dele),
    b"NOOP": (_AFTER, Pop3Server._noop),
    b"RSET": (_AFTER, Pop3Server._rset),
}
"""Which command is legal in which state; nowhere else is that decided."""
