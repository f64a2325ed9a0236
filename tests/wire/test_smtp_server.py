"""The machine that takes mail: the same at any split, and only what may be asked gets out."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.dots import TERMINATOR, DotEncoder
from proxy.wire.line_server import OUTPUT_LIMIT
from proxy.wire.pop3_events import (
    CertificateLogin,
    HttpBegun,
    PasswordLogin,
    ScramStart,
    StartTls,
    TooManyErrors,
)
from proxy.wire.smtp_events import Content, Data, Event, Hello, Mail, Quit, Rcpt, Reset
from proxy.wire.smtp_server import SmtpOffer, SmtpServer
from tests.wire.feeding import every_way
from tests.wire.http import HTTP_FIELDS, HTTP_LINES, NO_HTTP_LINES
from tests.wire.scram_client import ScramClient

OFFER = SmtpOffer(starttls=True, plaintext_login=True, max_message_size=1000)
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret") + b"\r\n"
START = b"EHLO client\r\n" + LOGIN


class Session:
    """A driver that grants everything, and takes down what it was asked."""

    def __init__(self, offer: SmtpOffer = OFFER) -> None:
        self.machine = SmtpServer(offer)
        self.events: list[Event] = []
        self.mails: list[bytes] = []
        self.sent = b""
        self._mail = b""

    def feed(self, *pieces: bytes) -> Session:
        for piece in pieces:
            self.machine.receive(piece)
            while (event := self.machine.next_event()) is not None:
                self._answer(event)
            self.sent += self.machine.data_to_send()
        return self

    @property
    def codes(self) -> list[int]:
        lines = self.sent.decode().splitlines()
        return [int(line[:3]) for line in lines if line[3] == " "]

    def _answer(self, event: Event) -> None:
        if not isinstance(event, Content):
            self.events.append(event)
        match event:
            case Hello():
                self.machine.hello()
            case PasswordLogin():
                self.machine.welcome("2.7.0 welcome")
            case StartTls():
                self.machine.start_tls()
                self.machine.tls_started()
            case Data():
                self.machine.start_content()
            case Content(data, last):
                self._mail += data
                if not last:
                    self.machine.take_more()
                    return
                self.mails.append(self._mail)
                self._mail = b""
                self.machine.reply(250, "2.0.0 taken")
            case _:
                self.machine.reply(250, "2.0.0 granted")


lines = st.lists(st.sampled_from([b"", b".", b"..", b"text", b".x", b"QUIT", b"a\rb", b"a\nb"]))
mails = st.lists(lines.map(lambda each: b"".join(line + b"\r\n" for line in each)), max_size=4)


@given(mails)
def test_mails_come_out_as_they_went_in_at_any_split(mails: list[bytes]) -> None:
    wire = START
    for mail in mails:
        wire += b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + DotEncoder().feed(mail)
        wire += TERMINATOR
    wire += b"QUIT\r\n"
    for pieces in every_way(wire):
        session = Session().feed(*pieces)
        assert session.mails == mails
        assert session.events[2:] == [Mail("<a@b>"), Rcpt("<c@d>"), Data()] * len(mails) + [Quit()]
        assert session.codes == [250, 235] + [250, 250, 354, 250] * len(mails) + [250]


@given(
    st.lists(st.sampled_from([START, b"DATA\r\n", b".\r\n", b"\r", b"\n", b"RSET\r\n", b"\xff"]))
)
def test_whatever_comes_is_taken_alike_at_any_split(parts: list[bytes]) -> None:
    wire = b"".join(parts)
    seen = {
        (repr(session.events), session.sent, repr(session.mails))
        for session in (Session().feed(*pieces) for pieces in every_way(wire))
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        (b"", b"MAIL FROM:<a@b>", 503),
        (b"", b"DATA", 503),
        (b"", LOGIN.strip(), 503),
        (b"HELO client\r\n", LOGIN.strip(), 503),
        (b"HELO client\r\n", b"MAIL FROM:<a@b>", 530),
        (b"EHLO client\r\n", b"RCPT TO:<a@b>", 530),
        (b"EHLO client\r\n", b"DATA", 530),
        (START, LOGIN.strip(), 503),
        (START, b"STARTTLS", 503),
        (START, b"MAIL <a@b>", 501),
        (START, b"RCPT FROM:<a@b>", 501),
        (START, b"DATA now", 501),
        (START, b"MAIL FROM:<a@b>\tSIZE=1", 501),
        (START, b"BDAT 5 LAST", 500),
        (START, b"MAIL FROM:<" + b"a" * 2000 + b">", 500),
    ],
)
def test_what_may_not_be_asked_now_is_nobody_s_decision(
    before: bytes, line: bytes, code: int
) -> None:
    session = Session().feed(before)
    decided = len(session.events)
    session.feed(line + b"\r\n")
    assert len(session.events) == decided
    assert session.codes[-1] == code


def test_arguments_come_out_as_they_are() -> None:
    session = Session().feed(START, b"mail from:<j\xc3\xb6rg@b> SMTPUTF8\r\nRcpt To:<\xff@b>\r\n")
    assert session.events[2:] == [Mail("<jörg@b> SMTPUTF8"), Rcpt("<\udcff@b>")]


def test_without_tls_no_login_is_offered_or_taken_where_it_is_not_allowed() -> None:
    session = Session(replace(OFFER, plaintext_login=False)).feed(START)
    assert (session.events, session.codes) == ([Hello()], [250, 538])
    assert b"AUTH" not in session.sent
    assert b"STARTTLS" in session.sent


def test_tls_forgets_what_was_said_in_clear() -> None:
    session = Session().feed(b"EHLO client\r\nSTARTTLS\r\nEHLO injected\r\n" + LOGIN)
    assert session.events == [Hello(), StartTls()]
    session.feed(LOGIN)
    assert session.codes[-1] == 503


def test_a_client_certificate_is_a_login() -> None:
    session = Session()
    session.machine.tls_started(certificate=True)
    session.feed(b"EHLO client\r\nAUTH EXTERNAL " + base64.b64encode(b"alice") + b"\r\n")
    assert session.events == [Hello(), CertificateLogin("alice")]
    assert b"AUTH PLAIN LOGIN EXTERNAL\r\n" in session.sent
    without = Session().feed(b"EHLO client\r\nAUTH EXTERNAL =\r\n")
    assert (without.events, without.codes) == ([Hello()], [250, 504])


def test_a_login_that_was_given_up_is_none() -> None:
    session = Session().feed(b"EHLO client\r\nAUTH LOGIN\r\n*\r\nAUTH SCRAM-SHA-256\r\n!\r\n")
    assert session.codes == [250, 334, 501, 334, 501]
    assert session.events == [Hello()]


def test_scram_asks_for_keys() -> None:
    first = base64.b64encode(ScramClient("alice", b"secret").first())
    session = Session().feed(b"EHLO client\r\nAUTH SCRAM-SHA-256 " + first + b"\r\n")
    assert session.events == [Hello(), ScramStart("alice")]


def test_no_password_is_in_what_is_logged_of_an_event() -> None:
    session = Session().feed(START, b"MAIL FROM:<a@b>\r\nDATA\r\nconfidential\r\n.\r\n")
    assert "secret" not in repr(session.events)
    assert "confidential" not in repr(Content(b"confidential", last=True))


def test_too_many_bad_commands_are_an_event() -> None:
    session = Session(replace(OFFER, max_errors=3)).feed(b"X\r\n" * 3)
    assert session.events == [TooManyErrors()]


@pytest.mark.parametrize("line", HTTP_LINES)
@pytest.mark.parametrize("in_front", [b"", b"NOOP\r\n", START])
def test_a_line_of_http_is_an_event_and_nothing_behind_it_is_looked_at(
    line: bytes, in_front: bytes
) -> None:
    session = Session()
    session.feed(in_front)
    session.events.clear()
    session.machine.receive(line + b"\r\n" + START + b"QUIT\r\n")
    assert session.machine.next_event() == HttpBegun()
    assert session.machine.next_event() is None


@pytest.mark.parametrize("line", HTTP_FIELDS)
@pytest.mark.parametrize("in_front", [b"", b"POST /" + b"a" * 10_000 + b" HTTP/1.1\r\n"])
def test_a_request_line_that_is_too_long_is_known_by_the_field_behind_it(
    line: bytes, in_front: bytes
) -> None:
    machine = SmtpServer(OFFER)
    machine.receive(in_front + line + b"\r\n" + START)
    assert machine.next_event() == HttpBegun()


@pytest.mark.parametrize("line", HTTP_FIELDS)
def test_a_mail_that_is_sent_too_early_is_refused_line_by_line(line: bytes) -> None:
    session = Session().feed(START, line + b"\r\nQUIT\r\n")
    assert 500 in session.codes
    assert session.events[-1] == Quit()


def test_a_mail_may_hold_lines_of_http() -> None:
    content = b"".join(line + b"\r\n" for line in HTTP_LINES + HTTP_FIELDS)
    session = Session().feed(START, b"MAIL FROM:<a@b>\r\nDATA\r\n", content + TERMINATOR)
    assert session.mails == [content]


@pytest.mark.parametrize("line", NO_HTTP_LINES)
def test_other_unknown_commands_are_refused_and_the_session_goes_on(line: bytes) -> None:
    session = Session().feed(line + b"\r\nQUIT\r\n")
    assert session.events == [Quit()]


def test_answers_that_nobody_reads_are_made_no_further() -> None:
    machine = SmtpServer(OFFER)
    machine.receive(b"NOOP\r\n" * OUTPUT_LIMIT)
    assert machine.next_event() is None
    assert machine.output_octets < 2 * OUTPUT_LIMIT


def test_commands_wait_for_the_answer_that_is_owed() -> None:
    machine = SmtpServer(OFFER)
    machine.receive(b"RSET\r\nRSET\r\n")
    assert machine.next_event() == Reset()
    assert machine.next_event() is None
    machine.reply(250, "2.0.0 forgotten")
    assert machine.next_event() == Reset()
