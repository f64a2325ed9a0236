"""What a mail program may ask for when it sends, what devices get of it, and what operators see."""

from __future__ import annotations

import smtplib

import pytest

from tests.e2e.exim import LATER, REFUSED, Exim
from tests.e2e.poplib_device import logged_in
from tests.e2e.rig import Rig, login
from tests.e2e.sending import NO_COPIES, PREFIX, Sending, copy_of
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

BOB = "bob@example.org"
ALICE = "alice@example.org"


def mail(name: str, *, to: str = BOB) -> bytes:
    return f"To: {to}\r\nMessage-ID: <{name}@example.org>\r\nSubject: {name}\r\n\r\nx\r\n".encode()


# --- the envelope ---------------------------------------------------------------------------------


def test_recipients_that_are_refused_do_not_keep_the_others_from_getting_it(
    sending: Sending,
) -> None:
    with sending.session() as session:
        refused = session.sendmail(ALICE, [REFUSED, BOB, LATER], mail("some"))
    assert refused == {
        REFUSED: (550, b"5.1.1 nobody of that name"),
        LATER: (451, b"4.2.1 that mailbox is busy"),
    }
    assert [each.recipient for each in sending.arrived(1)] == [BOB]
    assert sending.copies("phone") == [copy_of(mail("some"))]


def test_status_notifications_are_asked_for_upstream(sending: Sending) -> None:
    with sending.session() as session:
        session.sendmail(
            ALICE,
            [BOB],
            mail("notified"),
            mail_options=["RET=HDRS", "ENVID=one+2Btwo"],
            rcpt_options=["NOTIFY=SUCCESS", f"ORCPT=rfc822;{BOB}"],
        )
    notification, arrived = sending.arrived(2)
    assert (notification.sender, notification.recipient) == ("", ALICE)
    assert b"Original-Envelope-Id: one+2two" in notification.mail or (
        b"successful delivery" in notification.mail
    )
    assert arrived.mail == mail("notified")


def test_addresses_may_be_of_any_script(sending: Sending) -> None:
    jorg = "jörg@exämple.org"
    text = mail("utf8", to=jorg)
    with sending.session() as session:
        session.ehlo()
        session.sendmail(ALICE, [jorg], text, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    assert [each.mail for each in sending.arrived(1)] == [text]
    assert "utf8" in sending.arrived(1)[0].received
    assert sending.copies("phone") == [copy_of(text)]


def test_commands_sent_ahead_are_answered_one_by_one(sending: Sending) -> None:
    with sending.session() as session:
        session.send(
            f"MAIL FROM:<{ALICE}>\r\nRCPT TO:<{REFUSED}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n".encode()
        )
        assert [session.getreply()[0] for _ in range(4)] == [250, 550, 250, 354]
        session.send(mail("ahead") + b".\r\nNOOP\r\n")
        assert [session.getreply()[0] for _ in range(2)] == [250, 250]
    assert [each.mail for each in sending.arrived(1)] == [mail("ahead")]


def test_a_mail_that_is_too_large_is_refused_by_its_size_and_by_what_comes(
    rig: Rig, exim: Exim
) -> None:
    sending = Sending(rig, exim, limits={"max_message_size": "100KiB"})
    large = mail("large") + b"x" * 70_000 + b"\r\n" + b"x" * 70_000 + b"\r\n"
    with sending.session() as session:
        with pytest.raises(smtplib.SMTPSenderRefused, match="larger"):
            session.sendmail(ALICE, [BOB], large)
        session.esmtp_features.pop("size")
        with pytest.raises(smtplib.SMTPDataError, match="larger"):
            session.sendmail(ALICE, [BOB], large)
        assert session.sendmail(ALICE, [BOB], mail("small")) == {}
    assert [each.mail for each in sending.arrived(1)] == [mail("small")]
    assert sending.copies("phone") == [copy_of(mail("small"))]


def test_mails_one_after_the_other_share_a_session_upstream(sending: Sending) -> None:
    before = sending.exim.sessions()
    for turn in range(3):
        with sending.session() as session:
            for number in range(3):
                session.sendmail(ALICE, [BOB], mail(f"{turn}.{number}"))
    assert len(sending.arrived(9)) == 9
    assert sending.exim.sessions() == before + 1


def test_a_password_that_the_smtp_server_refuses_is_told_in_its_words(rig: Rig, exim: Exim) -> None:
    sending = Sending(rig, exim, username="nobody")
    with sending.session() as session:
        with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.7\.8 .*Incorrect auth") as refused:
            session.sendmail(ALICE, [BOB], mail("refused"))
        assert refused.value.smtp_code == 554
    assert sending.all_copies() == NO_COPIES
    done = sending.proxy.cli("check")
    assert done.returncode != 0
    assert "Incorrect auth" in done.stdout + done.stderr


# --- the copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "having"), [("all", "laptop phone desk"), ("off", "")])
def test_who_gets_copies_is_configured(rig: Rig, exim: Exim, which: str, having: str) -> None:
    sending = Sending(rig, exim, sent_copies=which)
    with sending.session() as session:
        session.sendmail(ALICE, [BOB], mail("copied"))
    sending.arrived(1)
    expected = {**NO_COPIES, **{name: [copy_of(mail("copied"))] for name in having.split()}}
    assert sending.all_copies() == expected


def test_blind_recipients_are_not_told_where_that_is_unwanted(rig: Rig, exim: Exim) -> None:
    sending = Sending(rig, exim, keep_bcc=False)
    with sending.session() as session:
        session.sendmail(
            ALICE, [BOB, "carol@example.org"], b"Bcc: dave@example.org\r\n" + mail("b")
        )
    sending.arrived(2)
    assert sending.copies("phone") == [copy_of(mail("b"))]


def test_copies_live_on_and_are_deleted_as_any_mail(sending: Sending) -> None:
    with sending.session() as session:
        session.sendmail(ALICE, [BOB], mail("kept"))
    sending.proxy.restart()
    with logged_in(sending.proxy.endpoint(), login(sending.user, "phone")) as device:
        (uid,) = device.uids().values()
        assert uid.startswith(PREFIX)
        device.dele(1)
        device.quit()
    with logged_in(sending.proxy.endpoint(), login(sending.user, "phone")) as device:
        assert device.uids() == {}
    assert sending.copies("desk") == [copy_of(mail("kept"))]
    assert sending.rig.dovecot.mails(sending.user) == []


@pytest.mark.parametrize("which", ["show", "hide"])
def test_a_mail_that_comes_back_is_known_by_its_message_id(
    rig: Rig, exim: Exim, which: str
) -> None:
    sending = Sending(rig, exim, returned_copies=which)
    with sending.session() as session:
        session.sendmail(ALICE, [BOB], mail("list"))
    returned = b"Received: from a list; Tue, 24 Nov 2026 10:00:00 +0000\r\n" + mail("list")
    rig.dovecot.deliver(sending.user, returned, mail("other"))
    assert sending.proxy.cli("account", "sync", sending.user.name).returncode == 0
    fresh = rig.device(sending.proxy, sending.user, "tablet")
    for name, device in {**sending.devices, "tablet": fresh}.items():
        device.poll()
        seen = [each for uid, each in device.by_uid.items() if not uid.startswith(PREFIX)]
        hidden = which == "hide" and name != "tablet"
        assert seen == ([mail("other")] if hidden else [returned, mail("other")]), name
    # It is hidden, and nothing more: upstream keeps it as long as any mail.
    assert rig.dovecot.count(sending.user) == 2


# --- the operator ---------------------------------------------------------------------------------


def test_check_and_status_know_the_smtp_side(sending: Sending) -> None:
    done = sending.proxy.cli("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sending.exim.host}:{sending.exim.port}" in done.stdout
    with sending.session() as session:
        session.sendmail(ALICE, [BOB], mail("counted"))
    row = sending.proxy.cli_json("account", "show", sending.user.name)
    assert row["smtp"] == f"{sending.exim.host}:{sending.exim.port}"
    assert "250" in str(row)
    log = sending.proxy.log()
    assert "event=submission_ended" in log
    assert sending.user.password not in log


def test_check_tells_of_an_smtp_server_that_is_gone(sending: Sending) -> None:
    sending.exim.stop()
    try:
        done = sending.proxy.cli("check")
        assert done.returncode != 0
        assert str(sending.exim.port) in done.stdout + done.stderr
    finally:
        sending.exim.start()
    eventually(lambda: sending.proxy.cli("check").returncode == 0, what="check to be content")
