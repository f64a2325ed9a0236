"""The server's side of POP3 without I/O; see `line_server`.

Pipelined commands wait as octets until what was asked before is answered (RFC 2449 §6.6). Answers
are ok(), err() or body_*(). What needs no decision from outside the machine answers itself: syntax,
order of commands, CAPA, NOOP, the steps of a SASL exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.wire import sasl
from proxy.wire.arguments import BadSyntax, no_arguments, numbers, optional_number
from proxy.wire.dots import TERMINATOR
from proxy.wire.http_lines import is_http
from proxy.wire.line_server import LineOffer, LineServer
from proxy.wire.lines import TOO_LONG
from proxy.wire.pop3 import NEVER, Expire
from proxy.wire.pop3_events import (
    Dele,
    Event,
    HttpBegun,
    List,
    PasswordLogin,
    Quit,
    Retr,
    Rset,
    StartTls,
    Stat,
    TooManyErrors,
    Top,
    Uidl,
)

OTHER = b"other"

LANGUAGES = {"en": "English", "i-default": "English"}
"""RFC 6856 §3: tags of the languages our texts are in, with the name of each in itself."""


class State(Enum):
    """RFC 1939 §3."""

    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"
    UPDATE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(LineOffer):
    stls: bool
    implementation: str
    """Name and version, as "name/version"."""
    expire: Expire = NEVER


class Pop3Server(LineServer[Event]):
    """One session's machine. Not to be used again after `Quit`, `TooManyErrors` or `HttpBegun`."""

    challenge_mark = b"+ "
    _offer: Offer

    def __init__(self, offer: Offer) -> None:
        super().__init__(offer, TooManyErrors())
        self.state = State.AUTHORIZATION
        self.commands: dict[bytes, int] = {}
        """How often each command came, refused or not; unknown ones are under `OTHER`."""
        self._expire = offer.expire
        self._utf8 = False
        self._username: str | None = None

    def _read_on(self) -> bool:
        line = self._next_line()
        if line is None:
            return False
        if line is TOO_LONG:
            # It may have been another USER.
            self._username = None
            self._refuse("line too long")
        elif self._exchange is not None:
            self._sasl_response(line)
        else:
            self._command(line)
        return True

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

    def body_start(self, text: str) -> None:
        """Begin a multi-line answer that comes in parts; the event stays owed until `body_end`."""
        self._put(b"+OK %s\r\n" % text.encode())

    def body_part(self, stuffed: bytes) -> None:
        self._put(stuffed)

    def body_end(self) -> None:
        """The octets before this ended in CRLF, or there were none."""
        self._answer(TERMINATOR)

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
        super().tls_started(certificate=certificate, end_point=end_point)
        self._username = None

    # --- within ---------------------------------------------------------------------------------

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
            if is_http(line, fields=True):
                self._owed = HttpBegun()
            else:
                self._refuse("unknown command")
            return
        states, handle = entry
        if self.state not in states:
            self._refuse(f"not possible in the {self.state.value} state")
            return
        try:
            self._owed = handle(self, rest)
        except (BadSyntax, sasl.SaslError) as error:
            self._refuse(str(error))

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

    def _noop(self, rest: bytes) -> None:
        self._put(b"+OK\r\n")

    def _user(self, rest: bytes) -> None:
        self._username = None
        self._check_login_allowed()
        self._username = sasl.decode_name(rest)
        self._put(b"+OK send PASS\r\n")

    def _pass(self, rest: bytes) -> Event:
        self._check_login_allowed()
        if self._username is None:
            raise BadSyntax("send USER first")
        username, self._username = self._username, None
        # The password may hold spaces: RFC 1939 §7.
        return PasswordLogin(username, sasl.check_password(rest))

    def _auth(self, rest: bytes) -> Event | None:
        self._check_login_allowed()
        words = rest.split()
        if not words:
            # Outlook, mutt and others ask so for the mechanisms.
            self._listing("mechanisms follow", self._announced())
            return None
        if len(words) > 2:
            raise BadSyntax("too many arguments")
        exchange = self._mechanism(words[0])
        return self._step(exchange, sasl.initial(words[1] if len(words) == 2 else None))

    def _sasl_response(self, line: bytes) -> None:
        if self._cancelled(line):
            self._refuse("authentication cancelled")
            return
        try:
            self._owed = self._respond(line)
        except sasl.SaslError as error:
            self._refuse(str(error))

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
