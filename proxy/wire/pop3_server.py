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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.wire import mechanisms, sasl
from proxy.wire.arguments import BadSyntax, no_arguments, numbers, optional_number
from proxy.wire.dots import TERMINATOR
from proxy.wire.errors import LocalProtocolError
from proxy.wire.lines import TOO_LONG, LineBuffer
from proxy.wire.pop3 import COMMAND_LINE_LIMIT, NEVER, SASL_LINE_LIMIT, Expire
from proxy.wire.pop3_events import (
    Dele,
    Event,
    List,
    PasswordLogin,
    Quit,
    Retr,
    Rset,
    ScramStart,
    StartTls,
    Stat,
    TooManyErrors,
    Top,
    Uidl,
)
from proxy.wire.scram import ScramKeys

OUTPUT_LIMIT = 64 * 1024
"""Octets of answers that wait to be sent: a client that reads nothing is answered no further."""

OTHER = b"other"

LANGUAGES = {"en": "English", "i-default": "English"}
"""RFC 6856 §3: tags of the languages our texts are in, with the name of each in itself."""


class State(Enum):
    """RFC 1939 §3."""

    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server offers on one connection, and how much it puts up with."""

    stls: bool
    plaintext_login: bool
    """Whether logins without TLS are taken."""
    implementation: str
    """Name and version, as "name/version"."""
    scram: bool = False
    """Whether SCRAM is announced; it is taken in any case."""
    expire: Expire = NEVER
    max_errors: int = 20
    """Commands refused in one session before we hang up; Dovecot gives up after 20 as well."""
    line_limit: int = COMMAND_LINE_LIMIT
    """Octets of a command."""


class Pop3Server:
    """One session's machine. Not to be used again after `Quit` or `TooManyErrors`."""

    def __init__(self, offer: Offer) -> None:
        self.state = State.AUTHORIZATION
        self.tls = False
        self.commands: dict[bytes, int] = {}
        """How often each command came, refused or not; unknown ones are under `OTHER`."""
        self._offer = offer
        self._expire = offer.expire
        self._utf8 = False
        self._certificate = False
        self._end_point: bytes | None = None
        self._lines = LineBuffer()
        self._output: list[bytes] = []
        self._output_octets = 0
        self._owed: Event | None = None
        self._errors = 0
        self._username: str | None = None
        self._exchange: mechanisms.Mechanism | None = None

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
        """The next thing to decide.

        None: an answer is owed, no whole line is there, or `OUTPUT_LIMIT` octets are to be sent
        first.
        """
        while self._owed is None and self._output_octets < OUTPUT_LIMIT:
            limit = SASL_LINE_LIMIT if self._exchange else self._offer.line_limit
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
            if self._errors >= self._offer.max_errors and self._owed is None:
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
        self._exchange = None
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
        self._answer(b"+ %s\r\n" % sasl.encode(challenge.data))

    def logged_in(self, text: str, expire: Expire = NEVER) -> None:
        """Answer a login with success."""
        self.state = State.TRANSACTION
        self._expire = expire
        self.ok(text)

    def start_tls(self) -> None:
        """Answer `StartTls`; whatever the peer sent in clear behind STLS is thrown away."""
        self.ok("begin TLS")
        self._lines.clear()

    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        """All that was learnt in clear is forgotten (RFC 2595 §4).

        `certificate` tells whether the client has shown one that we trust; `end_point` is the
        channel binding tls-server-end-point (RFC 5929 §4).
        """
        self._lines.clear()
        self._username = None
        self.tls = True
        self._certificate = certificate
        self._end_point = end_point

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
        word, _, rest = line.partition(b" ")
        verb = word.upper()
        entry = _COMMANDS.get(verb)
        known = OTHER if entry is None else verb
        self.commands[known] = self.commands.get(known, 0) + 1
        if entry is None:
            self._refuse("unknown command")
            return
        states, handle = entry
        if self.state not in states:
            self._refuse(f"not possible in the {self.state.value} state")
            return
        try:
            self._owed = handle(self, rest)
        except BadSyntax as error:
            self._refuse(str(error))

    @property
    def _login_allowed(self) -> bool:
        return self.tls or self._offer.plaintext_login

    def _check_login_allowed(self) -> None:
        if not self._login_allowed:
            hint = "use STLS first" if self._offer.stls else "use the TLS port"
            raise BadSyntax(f"logins in clear text are not allowed here: {hint}")

    def _capa(self, rest: bytes) -> None:
        no_arguments(rest)
        before = self.state is State.AUTHORIZATION
        capabilities = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"]
        if before and self._login_allowed:
            capabilities += ["USER", "SASL " + " ".join(self._announced())]
        if before and self._offer.stls and not self.tls:
            capabilities.append("STLS")
        # RFC 2449 §6.9: the name without a version until the peer has logged in.
        name = self._offer.implementation
        implementation = "IMPLEMENTATION " + (name.partition("/")[0] if before else name)
        capabilities += [str(self._expire), "UTF8 USER", "LANG", implementation]
        self._listing("capability list follows", capabilities)

    def _listing(self, text: str, lines: Sequence[str]) -> None:
        joined = "".join(f"{line}\r\n" for line in lines)
        self._put(f"+OK {text}\r\n{joined}.\r\n".encode())

    def _announced(self) -> list[str]:
        """Mechanisms that suit every client; SCRAM-SHA-256-PLUS does not, see docs/protocol.md."""
        names = ["PLAIN", "LOGIN"]
        if self._offer.scram:
            names.append("SCRAM-SHA-256")
        if self._certificate:
            names.append("EXTERNAL")
        return names

    def _noop(self, rest: bytes) -> None:
        self._put(b"+OK\r\n")

    def _user(self, rest: bytes) -> None:
        self._username = None
        self._check_login_allowed()
        try:
            self._username = sasl.decode_name(rest.strip())
        except sasl.SaslError as error:
            raise BadSyntax(str(error)) from None
        self._put(b"+OK send PASS\r\n")

    def _pass(self, rest: bytes) -> Event:
        self._check_login_allowed()
        if self._username is None:
            raise BadSyntax("send USER first")
        username, self._username = self._username, None
        try:
            # The password may hold spaces: RFC 1939 §7.
            return PasswordLogin(username, sasl.check_password(rest))
        except sasl.SaslError as error:
            raise BadSyntax(str(error)) from None

    def _auth(self, rest: bytes) -> Event | None:
        self._check_login_allowed()
        words = rest.split()
        if not words:
            # Outlook, mutt and others ask so for the mechanisms.
            self._listing("mechanisms follow", self._announced())
            return None
        if len(words) > 2:
            raise BadSyntax("too many arguments")
        self._exchange = self._mechanism(words[0].decode("ascii", "replace").upper())
        if len(words) == 1:
            return self._sasl_step(None)
        # RFC 5034 §4: "=" stands for an initial response of no octets.
        return self._sasl_step(b"" if words[1] == b"=" else words[1], encoded=words[1] != b"=")

    def _mechanism(self, name: str) -> mechanisms.Mechanism:
        match name:
            case "PLAIN":
                return mechanisms.Plain()
            case "LOGIN":
                return mechanisms.Login()
            case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS":
                return mechanisms.Scram(plus=name.endswith("-PLUS"), end_point=self._end_point)
            case "EXTERNAL" if self._certificate:
                return mechanisms.External()
            case "EXTERNAL":
                raise BadSyntax("there is no client certificate that is known here")
        raise BadSyntax("unknown authentication mechanism")

    def _sasl_response(self, line: bytes) -> None:
        if line == b"*":
            self._exchange = None
            self._refuse("authentication cancelled")
            return
        try:
            self._owed = self._sasl_step(line)
        except BadSyntax as error:
            self._refuse(str(error))

    def _sasl_step(self, response: bytes | None, *, encoded: bool = True) -> Event | None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None  # noqa: S101 - callers have one under way
        try:
            data = sasl.decode(response) if response is not None and encoded else response
            step = exchange.step(data)
        except sasl.SaslError as error:
            raise BadSyntax(str(error)) from None
        if isinstance(step, mechanisms.Challenge):
            self._exchange = exchange
            self._put(b"+ %s\r\n" % sasl.encode(step.data))
            return None
        if isinstance(step, ScramStart):
            self._exchange = exchange
        return step

    def _stls_command(self, rest: bytes) -> Event:
        no_arguments(rest)
        if self.tls:
            raise BadSyntax("TLS is active already")
        if not self._offer.stls:
            raise BadSyntax("TLS is not available")
        if self._utf8:
            # RFC 6856 §2: UTF8 belongs behind STLS.
            raise BadSyntax("STLS is not possible after UTF8")
        return StartTls()

    def _utf8_command(self, rest: bytes) -> None:
        # Messages are handed on as upstream gave them, in either mode.
        no_arguments(rest)
        self._utf8 = True
        self._put(b"+OK UTF-8 it is\r\n")

    def _lang(self, rest: bytes) -> None:
        words = rest.split()
        if not words:
            self._listing("languages follow", [f"{tag} {name}" for tag, name in LANGUAGES.items()])
            return
        wanted = words[0].decode("ascii", "replace").lower()
        # RFC 4647 §3.4, lookup: what is more special is served by what is less so.
        tag = "en" if wanted == "*" else wanted
        while tag not in LANGUAGES and "-" in tag:
            tag = tag.rpartition("-")[0]
        if len(words) > 1 or tag not in LANGUAGES:
            raise BadSyntax("that language is not available")
        self._put(f"+OK {tag} texts are in English\r\n".encode())

    def _quit(self, rest: bytes) -> Event:
        no_arguments(rest)
        update = self.state is State.TRANSACTION
        self.state = State.UPDATE
        return Quit(update)

    def _stat(self, rest: bytes) -> Event:
        no_arguments(rest)
        return Stat()

    def _list(self, rest: bytes) -> Event:
        return List(optional_number(rest))

    def _uidl(self, rest: bytes) -> Event:
        return Uidl(optional_number(rest))

    def _retr(self, rest: bytes) -> Event:
        (number,) = numbers(rest, 1)
        return Retr(number)

    def _top(self, rest: bytes) -> Event:
        number, lines = numbers(rest, 2)
        return Top(number, lines)

    def _dele(self, rest: bytes) -> Event:
        (number,) = numbers(rest, 1)
        return Dele(number)

    def _rset(self, rest: bytes) -> Event:
        no_arguments(rest)
        return Rset()


_BEFORE = frozenset({State.AUTHORIZATION})
_AFTER = frozenset({State.TRANSACTION})
_BOTH = _BEFORE | _AFTER

_COMMANDS: dict[bytes, tuple[frozenset[State], Callable[[Pop3Server, bytes], Event | None]]] = {
    b"CAPA": (_BOTH, Pop3Server._capa),
    b"USER": (_BEFORE, Pop3Server._user),
    b"PASS": (_BEFORE, Pop3Server._pass),
    b"AUTH": (_BEFORE, Pop3Server._auth),
    b"STLS": (_BEFORE, Pop3Server._stls_command),
    b"UTF8": (_BEFORE, Pop3Server._utf8_command),
    b"LANG": (_BOTH, Pop3Server._lang),
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
