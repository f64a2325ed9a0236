"""The server's side of SMTP submission without I/O; see `line_server` (RFC 5321, RFC 6409).

Commands that come in one go wait as octets until what was asked before is answered (RFC 2920 §3.2).
The end of a mail is a dot between two CRLFs and nothing else. What needs no decision from outside
the machine answers itself: syntax, order of commands, NOOP, VRFY, the steps of a SASL exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.wire import sasl
from proxy.wire.dots import DotDecoder
from proxy.wire.http_lines import is_http
from proxy.wire.line_server import LineOffer, LineServer
from proxy.wire.lines import TOO_LONG
from proxy.wire.pop3_events import HttpBegun, LoginEvent, ScramStart, StartTls, TooManyErrors
from proxy.wire.smtp_events import Content, Data, Event, Hello, Mail, Quit, Rcpt, Reset
from proxy.wire.smtp_replies import reply_octets

NAME = "pop3-sync-proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpOffer(LineOffer):
    starttls: bool
    max_message_size: int
    """Octets."""


class _Refused(Exception):
    """A command that nobody outside need hear of."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class SmtpServer(LineServer[Event]):
    """One session's machine. Not to be used again after `Quit`, `TooManyErrors` or `HttpBegun`."""

    challenge_mark = b"334 "
    _offer: SmtpOffer

    def __init__(self, offer: SmtpOffer) -> None:
        super().__init__(offer, TooManyErrors())
        self.logged_in = False
        self._extended: bool | None = None
        """Whether the client has said EHLO; None: neither that nor HELO."""
        self._content: DotDecoder | None = None

    # --- octets ---------------------------------------------------------------------------------

    def _read_on(self) -> bool:
        if self._content is not None:
            return self._read_content(self._content)
        line = self._next_line()
        if line is None:
            return False
        try:
            if line is TOO_LONG:
                raise _Refused(500, "5.5.2 line too long")
            if self._exchange is None:
                self._owed = self._command(line)
            elif self._cancelled(line):
                raise _Refused(501, "5.7.0 the login was given up")
            else:
                self._owed = self._respond(line)
        except _Refused as refused:
            self._refuse(refused.code, refused.text)
        except sasl.SaslError as error:
            self._refuse(501, f"5.5.2 {error}")
        return True

    def _refuse(self, code: int, text: str) -> None:
        self._errors += 1
        self._put(reply_octets(code, text))

    def _read_content(self, dots: DotDecoder) -> bool:
        received = self._lines.take_all()
        if not received:
            return False
        data, rest = dots.feed(received)
        if rest is not None:
            self._content = None
            self._lines.feed(rest)
        self._owed = Content(data, last=rest is not None)
        return True

    # --- answers --------------------------------------------------------------------------------

    def greet(self, text: str) -> None:
        self._put(f"220 {text}\r\n".encode())

    def reply(self, code: int, text: str) -> None:
        """`text` should begin with its enhanced status code; lines are separated by LF."""
        self._exchange = None
        self._answer(reply_octets(code, text))

    def hello(self) -> None:
        """Answer `Hello`."""
        lines = [NAME, *(self._offers() if self._extended else [])]
        replies = [f"250-{line}\r\n" for line in lines[:-1]] + [f"250 {lines[-1]}\r\n"]
        self._answer("".join(replies).encode())

    def start_content(self) -> None:
        """Answer `Data`: what comes next is the mail."""
        self._content = DotDecoder()
        self._answer(b"354 the mail, then a line with a dot\r\n")

    def take_more(self) -> None:
        self._answer(b"")

    def welcome(self, text: str) -> None:
        """Answer a login with success."""
        self.logged_in = True
        self.reply(235, text)

    def start_tls(self) -> None:
        """Answer `StartTls`; whatever the peer sent in clear behind it is thrown away."""
        self.reply(220, "2.0.0 ready for TLS")
        self._lines.clear()

    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        super().tls_started(certificate=certificate, end_point=end_point)
        self._extended = None

    # --- commands -------------------------------------------------------------------------------

    def _command(self, line: bytes) -> Event | None:
        word, _, rest = line.partition(b" ")
        handle = _COMMANDS.get(word.upper())
        if handle is None:
            # Behind EHLO it is a line of a mail whose client has not waited for the answer to DATA.
            if is_http(line, fields=self._extended is None):
                return HttpBegun()
            raise _Refused(500, "5.5.2 this command is not known")
        if any(octet < 0x20 or octet == 0x7F for octet in rest):
            raise _Refused(501, "5.5.2 a command holds no control characters")
        return handle(self, rest)

    def _ehlo(self, rest: bytes) -> Event:
        return self._greeted_by(rest, extended=True)

    def _helo(self, rest: bytes) -> Event:
        return self._greeted_by(rest, extended=False)

    def _greeted_by(self, rest: bytes, *, extended: bool) -> Event:
        if not rest.strip():
            raise _Refused(501, "5.5.4 say who you are")
        self._extended = extended
        return Hello()

    def _offers(self) -> list[str]:
        """The same before and after the login, since no program asks twice; what the account's
        upstream lacks is refused where it is used."""
        offers = [
            "PIPELINING",
            f"SIZE {self._offer.max_message_size}",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "SMTPUTF8",
            "DSN",
        ]
        if self._offer.starttls and not self.tls:
            offers.append("STARTTLS")
        if self._login_allowed:
            offers.append("AUTH " + " ".join(self._announced()))
        return offers

    def _starttls(self, rest: bytes) -> Event:
        _nothing(rest)
        if self.tls or self.logged_in:
            raise _Refused(503, "5.5.1 not now")
        if not self._offer.starttls:
            raise _Refused(502, "5.5.1 there is no certificate for TLS")
        return StartTls()

    def _mail(self, rest: bytes) -> Event:
        return Mail(self._path(rest, b"FROM:"))

    def _rcpt(self, rest: bytes) -> Event:
        return Rcpt(self._path(rest, b"TO:"))

    def _path(self, rest: bytes, keyword: bytes) -> str:
        self._check_logged_in()
        if rest[: len(keyword)].upper() != keyword:
            raise _Refused(501, f"5.5.4 {keyword.decode()}<address> is expected")
        return rest[len(keyword) :].decode("utf-8", "surrogateescape")

    def _data(self, rest: bytes) -> Event:
        _nothing(rest)
        self._check_logged_in()
        return Data()

    def _check_logged_in(self) -> None:
        if self._extended is None:
            raise _Refused(503, "5.5.1 say EHLO first")
        if not self.logged_in:
            raise _Refused(530, "5.7.0 log in first")

    def _rset(self, rest: bytes) -> Event:
        _nothing(rest)
        return Reset()

    def _noop(self, rest: bytes) -> None:
        self._put(reply_octets(250, "2.0.0 nothing done"))

    def _vrfy(self, rest: bytes) -> None:
        self._put(reply_octets(252, "2.5.0 send it, and the SMTP server will tell"))

    def _quit(self, rest: bytes) -> Event:
        _nothing(rest)
        return Quit()

    def _auth(self, rest: bytes) -> LoginEvent | ScramStart | None:
        if not self._extended or self.logged_in:
            raise _Refused(503, "5.5.1 not now")
        if not self._login_allowed:
            raise _Refused(538, "5.7.11 a login needs TLS here")
        words = rest.split()
        if len(words) not in (1, 2):
            raise _Refused(501, "5.5.4 AUTH takes a mechanism and perhaps a response")
        try:
            exchange = self._mechanism(words[0])
        except sasl.SaslError as error:
            raise _Refused(504, f"5.5.4 {error}") from None
        return self._step(exchange, sasl.initial(words[1] if len(words) == 2 else None))


def _nothing(rest: bytes) -> None:
    if rest.strip():
        raise _Refused(501, "5.5.4 this command takes no arguments")


_COMMANDS: dict[bytes, Callable[[SmtpServer, bytes], Event | None]] = {
    b"EHLO": SmtpServer._ehlo,
    b"HELO": SmtpServer._helo,
    b"STARTTLS": SmtpServer._starttls,
    b"AUTH": SmtpServer._auth,
    b"MAIL": SmtpServer._mail,
    b"RCPT": SmtpServer._rcpt,
    b"DATA": SmtpServer._data,
    b"RSET": SmtpServer._rset,
    b"NOOP": SmtpServer._noop,
    b"VRFY": SmtpServer._vrfy,
    b"QUIT": SmtpServer._quit,
}
