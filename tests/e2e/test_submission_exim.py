"""Exim or the client goes away: the answer is right, and where a copy is, the mail is sent."""

from __future__ import annotations

import signal
import smtplib
from collections.abc import Callable

import pytest

from tests.e2e.senders import connect
from tests.e2e.sending import Sending, copy_of
from tests.e2e.smtp_tap import SmtpTap, When
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

BOB = ["bob@example.org"]


def mail(name: str, octets: int = 500) -> bytes:
    header = f"To: bob@example.org\r\nMessage-ID: <{name}@example.org>\r\nSubject: {name}\r\n\r\n"
    return header.encode() + (b"x" * 70 + b"\r\n") * (octets // 72)


def code_of(send: Callable[[], object]) -> int:
    """What the client was told in the end."""
    try:
        send()
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except smtplib.SMTPRecipientsRefused as error:
        ((code, _),) = error.recipients.values()
        return code
    return 250


@pytest.mark.parametrize("octets", [500, 3_000_000])
@pytest.mark.parametrize(
    ("point", "when", "told", "arrived"),
    [
        ("connect", "asked", 451, 0),
        ("greeting", "half", 451, 0),
        ("AUTH", "asked", 451, 0),
        ("MAIL", "answered", 451, 0),
        ("RCPT", "asked", 451, 0),
        ("DATA", "asked", 451, 0),
        ("DATA", "passed", 451, 0),
        ("content", "asked", 451, 0),
        ("dot", "asked", 451, 0),
        ("dot", "answered", 451, 1),
        ("dot", "half", 451, 1),
        ("dot", "passed", 250, 1),
    ],
)
def test_a_connection_that_is_cut_is_told_and_makes_no_copy_of_what_was_not_taken(
    tapped: Sending,
    smtp_tap: SmtpTap,
    point: str,
    when: When,
    told: int,
    arrived: int,
    octets: int,
) -> None:
    smtp_tap.make_trouble(point, when, always=True)
    with tapped.session() as session:
        sent = mail("cut", octets)
        assert code_of(lambda: session.sendmail("alice@example.org", BOB, sent)) == told
        tapped.arrived(arrived)
        copies = [copy_of(sent)] if told == 250 else []
        assert tapped.all_copies() == {"laptop": [], "phone": copies, "desk": copies}
        smtp_tap.no_more_trouble()
        assert code_of(lambda: session.sendmail("alice@example.org", BOB, mail("again"))) == 250
    tapped.arrived(arrived + 1)
    copies.append(copy_of(mail("again")))
    assert tapped.all_copies() == {"laptop": [], "phone": copies, "desk": copies}


def test_a_client_that_hangs_up_after_the_last_dot_has_sent_it(sending: Sending) -> None:
    """It can't know, and will send it again; but what went out is on the other devices."""
    with connect(sending.endpoint()) as session:
        session.login(sending.login.user, sending.login.password)
        begin(session)
        session.send(mail("hung up") + b".\r\n")
        session.close()
    sending.arrived(1)
    eventually(lambda: sending.copies("phone") == [copy_of(mail("hung up"))], what="the copy")
    assert sending.copies("laptop") == []


def test_a_client_that_hangs_up_before_the_last_dot_has_not(sending: Sending) -> None:
    with connect(sending.endpoint()) as session:
        session.login(sending.login.user, sending.login.password)
        begin(session)
        session.send(mail("hung up"))
        session.close()
    with sending.session() as session:
        session.sendmail("alice@example.org", BOB, mail("whole"))
    (arrived,) = sending.arrived(1)
    assert arrived.mail == mail("whole")
    assert sending.copies("phone") == [copy_of(mail("whole"))]


def begin(session: smtplib.SMTP) -> None:
    """A mail, up to where its content is due."""
    assert session.docmd("MAIL", "FROM:<alice@example.org>")[0] == 250
    assert session.docmd("RCPT", "TO:<bob@example.org>")[0] == 250
    assert session.docmd("DATA")[0] == 354


def test_an_smtp_server_that_is_gone_is_told_and_missed_no_more_when_it_is_back(
    sending: Sending,
) -> None:
    sending.exim.stop()
    try:
        with sending.session() as session:
            told = code_of(lambda: session.sendmail("alice@example.org", BOB, mail("gone")))
            assert told == 451
    finally:
        sending.exim.start()
    with sending.session() as session:
        assert session.sendmail("alice@example.org", BOB, mail("back")) == {}
    assert [each.mail for each in sending.arrived(1)] == [mail("back")]


def test_a_mail_on_its_way_when_the_proxy_stops_is_sent_and_copied(sending: Sending) -> None:
    with sending.session() as session:
        begin(session)
        sending.proxy.send(signal.SIGTERM)
        session.send(mail("last") + b".\r\n")
        assert session.getreply()[0] == 250
        assert session.getreply()[0] == 421
    sending.proxy.stop()
    sending.proxy.start()
    sending.arrived(1)
    assert sending.copies("phone") == [copy_of(mail("last"))]
