"""Programs that send through the proxy: the mail arrives once, and other devices have it too."""

from __future__ import annotations

import re
import smtplib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import make_client_certificate
from tests.e2e.devices import Login, Security
from tests.e2e.exim import Exim
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.rig import Rig
from tests.e2e.senders import SENDERS, Sender, SendFailed, connect, send_by_msmtp, smtplib_
from tests.e2e.sending import NO_COPIES, PREFIX, Sending, copy_of

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[2] / "docs" / "sending.md"

MAIL = (
    b"From: Alice <alice@example.org>\r\n"
    b"To: Bob <bob@example.org>\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <one@example.org>\r\n"
    b"Subject: =?utf-8?q?caf=C3=A9?=,\r\n folded\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"caf\xc3\xa9\r\n.\r\n..\r\n.dot\r\n\r\nFrom here\r\n" + b"x" * 900 + b"\r\n\r\n"
)

each_sender = pytest.mark.parametrize("send", SENDERS, ids=lambda send: send.__name__.strip("_"))
each_way = pytest.mark.parametrize("security", ["starttls", "implicit"])


@each_sender
@each_way
def test_a_mail_arrives_once_and_each_other_device_gets_it_once(
    sending: Sending, tmp_path: Path, send: Sender, security: Security
) -> None:
    recipients = ["bob@example.org", "carol@example.org"]
    send(tmp_path, sending.endpoint(security), sending.login, recipients, MAIL)
    arrived = sending.arrived(2)
    assert [each.recipient for each in arrived] == recipients
    assert [each.sender for each in arrived] == ["alice@example.org"] * 2
    assert [each.mail for each in arrived] == [MAIL] * 2
    expected = [copy_of(MAIL, blind="carol@example.org")]
    for _ in range(2):
        assert sending.all_copies() == {"laptop": [], "phone": expected, "desk": expected}
    assert all(uid.startswith(PREFIX) for uid in sending.devices["phone"].by_uid)


@each_sender
def test_the_words_of_the_server_reach_the_person(
    sending: Sending, tmp_path: Path, send: Sender
) -> None:
    for recipients, mail, said in (
        (["refused@example.org"], MAIL, "nobody of that name"),
        (["later@example.org"], MAIL, "that mailbox is busy"),
        (["bob@example.org"], b"X-Test-Refuse: 550\r\n" + MAIL, "not such a mail"),
        (["bob@example.org"], b"X-Test-Refuse: 451\r\n" + MAIL, "not now"),
    ):
        with pytest.raises(SendFailed, match=said):
            send(tmp_path, sending.endpoint(), sending.login, recipients, mail)
    assert sending.all_copies() == NO_COPIES
    assert sending.exim.arrived() == []


@each_sender
def test_a_wrong_password_sends_nothing(sending: Sending, tmp_path: Path, send: Sender) -> None:
    stranger = Login(sending.login.user, "a guess")
    with pytest.raises(SendFailed, match=r"535|denied|refused"):
        send(tmp_path, sending.endpoint(), stranger, ["bob@example.org"], MAIL)
    assert sending.all_copies() == NO_COPIES


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("auth", ["plain", "login", "cram-md5"])
def test_exim_is_reached_in_every_way_it_has(
    rig: Rig, exim: Exim, tmp_path: Path, tls: str, auth: str
) -> None:
    sending = Sending(rig, exim, tls=tls, auth=auth)
    smtplib_(tmp_path, sending.endpoint(), sending.login, ["bob@example.org"], MAIL)
    (arrived,) = sending.arrived(1)
    assert "with esmtpsa" in arrived.received
    assert exim.logins()[-1] == (auth.partition("-")[0], sending.user.name)


def test_a_client_certificate_lets_the_proxy_send(rig: Rig, exim: Exim, tmp_path: Path) -> None:
    certificate, private_key = make_client_certificate(tmp_path, "the proxy of us")
    exim.add_certificate(certificate)
    sending = Sending(
        rig,
        exim,
        username="the proxy of us",
        client_certificate=str(certificate),
        client_key=str(private_key),
    )
    smtplib_(tmp_path, sending.endpoint(), sending.login, ["bob@example.org"], MAIL)
    assert len(sending.arrived(1)) == 1
    assert exim.logins()[-1][0] == "certificate"
    assert sending.copies("phone") == [copy_of(MAIL)]


def test_an_app_password_sends_for_its_device(sending: Sending, tmp_path: Path) -> None:
    made = sending.proxy.cli_json("device", "add", sending.user.name, "tablet")
    login = Login(sending.user.name, made["app_password"])
    smtplib_(tmp_path, sending.endpoint(), login, ["bob@example.org"], MAIL)
    sending.arrived(1)
    expected = [copy_of(MAIL, device="tablet")]
    assert sending.all_copies() == dict.fromkeys(sending.devices, expected)
    tablet = PoplibDevice(sending.proxy.endpoint(), login)
    tablet.poll()
    assert tablet.mails() == []


def test_what_the_documentation_says_for_msmtp_works_as_it_stands(
    sending: Sending, tmp_path: Path
) -> None:
    found = re.search(r"^```\n(account default\n.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    assert found
    text = found[1]
    at = sending.endpoint("implicit")
    for shown, real in {
        "192.168.1.5": at.host,
        "1465": str(at.port),
        "alice@example.com+laptop": sending.login.user,
        '"PASSWORD"': f'"{sending.login.password}"',
        "/home/alice/ca.pem": str(at.ca_file),
    }.items():
        assert text.count(shown) == 1, shown
        text = text.replace(shown, real)
    send_by_msmtp(tmp_path, text, ["bob@example.org"], MAIL)
    (arrived,) = sending.arrived(1)
    assert (arrived.sender, arrived.mail) == ("alice@example.com", MAIL)


def test_several_programs_send_at_once(sending: Sending, tmp_path: Path) -> None:
    def send(number: int) -> None:
        folder = tmp_path / f"program{number}"
        folder.mkdir()
        mail = MAIL.replace(b"<one@", b"<number%d@" % number)
        program = SENDERS[number % len(SENDERS)]
        program(folder, sending.endpoint(), sending.login, ["bob@example.org"], mail)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(12)))
    assert len({each.mail for each in sending.arrived(12)}) == 12
    assert len(set(sending.copies("phone"))) == 12
    assert sending.copies("laptop") == []


def test_a_large_mail_goes_through_whole(sending: Sending, tmp_path: Path) -> None:
    mail = MAIL + (b".x" * 38 + b"\r\n") * 250_000
    assert len(mail) > 19_000_000
    smtplib_(tmp_path, sending.endpoint(), sending.login, ["bob@example.org"], mail)
    assert [each.mail for each in sending.arrived(1)] == [mail]
    assert sending.copies("phone") == [copy_of(mail)]


def test_nobody_sends_without_a_login(sending: Sending) -> None:
    refusal = pytest.raises(smtplib.SMTPSenderRefused, match="log in first")
    with connect(sending.endpoint()) as session, refusal:
        session.sendmail("alice@example.org", ["bob@example.org"], MAIL)
    assert sending.exim.arrived() == []
