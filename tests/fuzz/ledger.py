"""The oracle of the server machine: which line came, and what may be the answer to it.

It knows the machine by its octets and events alone, counts one reply for each line, and follows
the session's state by what has been granted.
"""

from __future__ import annotations

import re

from proxy.wire import pop3_events as pop3
from proxy.wire.pop3 import SASL_LINE_LIMIT
from proxy.wire.pop3_server import Offer
from tests.fuzz.checks import Violation, expect

REPLY_LIMIT = 512
"""RFC 2449 §4: octets of a status line, its CRLF included."""

OWN_REPLY_LIMIT = 1024
"""Octets the machine may say by itself to one line; a challenge with a long nonce comes close."""

_STATUS = re.compile(rb"(?:\+OK|-ERR)(?: [!-~][ -~]*)?")
_CHALLENGE = re.compile(rb"\+ (?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_LISTED = re.compile(rb"[!-\-/-~][ -~]*")
"""A line of a list of the machine's own: printable, and no dot begins it."""

_FINE = re.compile(rb"(?i:CAPA|QUIT|LANG|LANG (?:en|\*|i-default|en-GB))")
_FINE_BEFORE = re.compile(rb"(?i:UTF8)")
_FINE_LOGIN = re.compile(rb"(?i:AUTH|USER [!-~]+)")
_FINE_AFTER = re.compile(
    rb"(?i:NOOP|STAT|RSET|(?:LIST|UIDL)(?: [0-9]{1,10})?|(?:RETR|DELE) [0-9]{1,10}"
    rb"|TOP [0-9]{1,10} [0-9]{1,10})"
)
"""Commands no server may refuse for their form, in the state that is theirs."""

_TRANSACTION = {
    pop3.Stat: b"STAT",
    pop3.List: b"LIST",
    pop3.Uidl: b"UIDL",
    pop3.Retr: b"RETR",
    pop3.Top: b"TOP",
    pop3.Dele: b"DELE",
    pop3.Rset: b"RSET",
}


class Ledger:
    """One session's. `fed`, then `own` and `event` and `answered` in the order of the wire."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._tls = self._certificate = False
        self._logged_in = self._utf8 = self._exchange = False
        self._user: bytes | None = None
        self._candidates: int | None = None
        """How many keys the SCRAM exchange under way was given."""
        self._refusals = 0
        self._lines: list[bytes] = []
        self._unfinished = b""
        self._replies = 0

    # --- what came ------------------------------------------------------------------------------

    def fed(self, piece: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + piece).split(b"\n")
        self._lines += lines

    def tls_started(self, *, certificate: bool) -> None:
        """What came in clear is of no account any more."""
        self._lines, self._unfinished, self._replies = [], b"", 0
        self._tls, self._certificate = True, certificate
        self._user = None

    @property
    def line_limit(self) -> int:
        return SASL_LINE_LIMIT if self._exchange else self._offer.line_limit

    def settled(self, waiting: int) -> None:
        """The machine has nothing to ask and waits."""
        expect(self._replies == len(self._lines), "a whole line has got no reply")
        expect(self._refusals < self._offer.max_errors, "too many errors, and it goes on")
        expect(waiting <= self.line_limit, "more waits than a line may have octets")

    def _line(self) -> bytes:
        """The line the next reply is for."""
        expect(self._replies < len(self._lines), "a reply or an event nothing was sent for")
        return self._lines[self._replies]

    @property
    def _login_allowed(self) -> bool:
        return not self._logged_in and (self._tls or self._offer.plaintext_login)

    # --- what the machine answered itself -------------------------------------------------------

    def own(self, output: bytes) -> None:
        pending = len(self._lines) - self._replies
        expect(len(output) <= OWN_REPLY_LIMIT * pending, "more is said than was asked for")
        position = 0
        while position < len(output):
            line = self._line()
            end = output.find(b"\r\n", position)
            expect(end >= 0, "a reply does not end in CRLF")
            status = output[position:end]
            check_status(status)
            position = end + 2
            if status.startswith(b"+OK") and _asks_for_a_list(line):
                position = _end_of_list(output, position)
            self._judge(line, status)
            self._replies += 1

    def _judge(self, line: bytes, status: bytes) -> None:
        too_long = len(line) > self.line_limit
        in_exchange, self._exchange = self._exchange, status.startswith(b"+ ")
        if not self._exchange:
            self._candidates = None
        if status.startswith(b"-ERR"):
            self._refusals += 1
            if not in_exchange and _verb(line) == b"USER":
                self._user = None
            expect(too_long or in_exchange or not self._is_fine(line), "a valid line was refused")
            return
        expect(not too_long, "a line beyond the limit was taken")
        expect(not in_exchange or self._exchange, "a login the driver was not asked about")
        if not in_exchange:
            self._judge_command(line, status)

    def _judge_command(self, line: bytes, status: bytes) -> None:
        verb = _verb(line)
        if self._exchange:
            expect(verb == b"AUTH" and self._login_allowed, "a challenge out of place")
        elif verb == b"USER":
            expect(self._login_allowed, "USER out of place")
            self._user = line[5:].decode(errors="replace").strip().encode()
        elif verb == b"AUTH":
            expect(self._login_allowed, "AUTH out of place")
        elif verb == b"UTF8":
            expect(not self._logged_in, "UTF8 after the login")
            self._utf8 = True
        elif verb == b"NOOP":
            expect(self._logged_in, "NOOP before a login")
        else:
            expect(verb in (b"CAPA", b"LANG"), "granted without asking the driver")

    def _is_fine(self, line: bytes) -> bool:
        line = line.removesuffix(b"\r")
        if _FINE.fullmatch(line):
            return True
        if self._logged_in:
            return bool(_FINE_AFTER.fullmatch(line))
        if self._login_allowed and _FINE_LOGIN.fullmatch(line):
            return True
        if line.upper() == b"STLS":
            return self._may_start_tls
        return bool(_FINE_BEFORE.fullmatch(line))

    @property
    def _may_start_tls(self) -> bool:
        return self._offer.stls and not self._tls and not self._logged_in and not self._utf8

    # --- what the machine asked the driver ------------------------------------------------------

    def event(self, event: pop3.Event) -> None:
        if isinstance(event, pop3.TooManyErrors):
            expect(self._refusals == self._offer.max_errors, "given up at another count")
            return
        expect(self._refusals < self._offer.max_errors, "too many errors, and it goes on")
        line = self._line()
        expect(len(line) <= self.line_limit, "a line beyond the limit was taken")
        match event:
            case pop3.PasswordLogin():
                self._password_login(event, line)
            case pop3.ScramStart() | pop3.ScramLogin() | pop3.CertificateLogin():
                self._sasl(event, line)
            case pop3.StartTls():
                expect(self._may_start_tls and not self._exchange, "STLS out of place")
                expect(_verb(line) == b"STLS", "STLS that nobody said")
            case pop3.HttpBegun():
                expect(not self._exchange, "HTTP inside of a login")
                expect(b":" in line or b" " in line, "HTTP that nobody spoke")
            case pop3.Quit(update):
                expect(_verb(line) == b"QUIT" and not self._exchange, "QUIT that nobody said")
                expect(update is self._logged_in, "an update that does not fit the state")
            case _:
                self._transaction(event, line)

    def _password_login(self, event: pop3.PasswordLogin, line: bytes) -> None:
        expect(self._login_allowed, "a login out of place")
        check_name(event.username)
        check_password(event.password)
        if self._exchange or _verb(line) == b"AUTH":
            return
        expect(_verb(line) == b"PASS" and self._user is not None, "a login that nobody asked for")
        expect(event.username.encode() == self._user, "another user's name")
        expect(event.password == line.removesuffix(b"\r")[5:], "another password")
        self._user = None

    def _sasl(
        self, event: pop3.ScramStart | pop3.ScramLogin | pop3.CertificateLogin, line: bytes
    ) -> None:
        expect(self._login_allowed, "a login out of place")
        expect(self._exchange or _verb(line) == b"AUTH", "an exchange that nobody began")
        match event:
            case pop3.ScramStart(username):
                check_name(username)
            case pop3.CertificateLogin(username):
                expect(self._certificate, "a certificate that nobody showed")
                check_name(username or "x")
            case pop3.ScramLogin(candidate):
                count = self._candidates
                expect(self._exchange and count is not None, "a proof without a challenge")
                expect(candidate is None or candidate in range(count or 0), "no such candidate")

    def _transaction(self, event: pop3.Event, line: bytes) -> None:
        expect(self._logged_in and not self._exchange, "a transaction before a login")
        verb, *arguments = line.split()
        expect(verb.upper() == _TRANSACTION[type(event)], "an event for another command")
        match event:
            case pop3.List(number) | pop3.Uidl(number):
                found = [] if number is None else [number]
            case pop3.Retr(number) | pop3.Dele(number):
                found = [number]
            case pop3.Top(number, lines):
                found = [number, lines]
            case _:
                found = []
        expect(all(word.isdigit() for word in arguments), "an argument that is no number")
        expect(found == [int(word) for word in arguments], "other numbers than were sent")

    # --- what the driver answered ---------------------------------------------------------------

    def answered(self) -> None:
        """With one reply, which was not a challenge."""
        self._replies += 1
        self._exchange = False
        self._candidates = None

    def challenged(self, candidates: int) -> None:
        self._replies += 1
        self._exchange = True
        self._candidates = candidates

    def logged_in(self) -> None:
        self.answered()
        self._logged_in = True


# --- replies ------------------------------------------------------------------------------------


def check_status(status: bytes) -> None:
    """A status line or a challenge, without its CRLF."""
    if status.startswith(b"+ "):
        expect(_CHALLENGE.fullmatch(status) is not None, "a challenge that is not base64")
        expect(len(status) <= SASL_LINE_LIMIT, "a challenge too long")
        return
    expect(_STATUS.fullmatch(status) is not None, f"no status line: {status!r}")
    expect(len(status) + 2 <= REPLY_LIMIT, "a status line too long")


def _end_of_list(output: bytes, start: int) -> int:
    """Where the multi-line answer ends whose first line begins at `start`."""
    position = start
    while True:
        end = output.find(b"\r\n", position)
        if end < 0:
            raise Violation("a list does not end in a dot")
        line, position = output[position:end], end + 2
        if line == b".":
            return position
        expect(_LISTED.fullmatch(line) is not None, f"no line of a list: {line!r}")
        expect(len(line) + 2 <= REPLY_LIMIT, "a line of a list too long")


def _asks_for_a_list(line: bytes) -> bool:
    words = line.split()
    return words != [] and (
        words[0].upper() == b"CAPA" or (len(words) == 1 and words[0].upper() in (b"AUTH", b"LANG"))
    )


def _verb(line: bytes) -> bytes:
    return line.removesuffix(b"\r").partition(b" ")[0].upper()


# --- names and passwords ------------------------------------------------------------------------


def check_name(name: str) -> None:
    expect(name != "" and name.isprintable(), "a user name that is not printable")
    name.encode()


def check_password(password: bytes) -> None:
    expect(password != b"", "a login without a password")
    expect(not set(password) & set(b"\0\r\n"), "a password that could be a command upstream")
