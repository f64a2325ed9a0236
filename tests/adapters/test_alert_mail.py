"""Mail to the operator, over a real SMTP server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.adapters.alert_mail import SmtpPostman
from proxy.domain.errors import MailNotSent
from proxy.domain.notice import compose
from proxy.domain.policy import AlertsPolicy, MailAddress, TlsMode
from tests.certificates import Certificates, make_certificates
from tests.e2e.dovecot import free_ports
from tests.smtp_server import CUT, smtp_server
from tests.smtp_sink import PASSWORD, USER, Sink, sink

MAIL = compose(
    subject="Ünder Umständen",
    body="Hello\n.\nworld\n",
    kind="alert",
    token="abc",
    at=1.8e9,
    sender="proxy@example.com",
    to=["ops@example.com"],
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def policy_for(server: Sink, certificates: Certificates) -> AlertsPolicy:
    return AlertsPolicy(
        to=(MailAddress("ops@example.com"), MailAddress("me@example.com")),
        sender="proxy@example.com",
        host="localhost",
        port=server.port,
        ca_file=str(certificates.ca_file),
        username=USER,
        password=PASSWORD,
    )


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_a_mail_arrives_whole_over_tls(certificates: Certificates, tls: TlsMode) -> None:
    with sink(certificates, tls) as server:
        policy = replace(policy_for(server, certificates), tls=tls)
        await SmtpPostman().try_out(policy)
        assert server.envelopes == []
        await SmtpPostman().send(policy, MAIL)
    (envelope,) = server.envelopes
    assert envelope.mail_from == "proxy@example.com"
    assert envelope.rcpt_tos == ["ops@example.com", "me@example.com"]
    assert envelope.content == MAIL


async def test_the_password_s_file_is_read_at_every_login(
    certificates: Certificates, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    with sink(certificates) as server:
        policy = replace(policy_for(server, certificates), password="", password_file=str(file))
        file.write_text("wrong\n")
        with pytest.raises(MailNotSent, match=r"localhost:\d+: 535 "):
            await SmtpPostman().send(policy, MAIL)
        file.write_text(f"{PASSWORD}\n")
        await SmtpPostman().send(policy, MAIL)
        file.unlink()
        with pytest.raises(MailNotSent, match="No such file"):
            await SmtpPostman().send(policy, MAIL)
    assert len(server.envelopes) == 1


async def test_a_certificate_that_does_not_verify_gets_no_password(
    certificates: Certificates,
) -> None:
    with sink(certificates) as server:
        policy = replace(policy_for(server, certificates), ca_file="")
        with pytest.raises(MailNotSent, match="certificate"):
            await SmtpPostman().send(policy, MAIL)
    assert server.envelopes == []


async def test_a_server_that_does_not_offer_starttls_gets_no_mail(
    certificates: Certificates,
) -> None:
    with sink(certificates, "none") as server:
        policy = replace(policy_for(server, certificates), tls="starttls")
        with pytest.raises(MailNotSent, match="STARTTLS"):
            await SmtpPostman().send(policy, MAIL)
    assert server.envelopes == []


async def test_a_refusal_is_repeated_on_one_line(certificates: Certificates) -> None:
    with sink(certificates) as server:
        server.refusal = "554 5.7.1 not today\x1b[31m"
        with pytest.raises(MailNotSent, match=r"554 5\.7\.1 not today") as refused:
            await SmtpPostman().send(policy_for(server, certificates), MAIL)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("answer", [CUT, "451 4.3.0 what", "what"])
async def test_a_mail_that_was_taken_is_sent_whatever_is_said_to_quit(answer: str) -> None:
    """Or it would be sent again."""
    async with smtp_server(answers={"QUIT": answer}) as server:
        policy = AlertsPolicy(
            to=(MailAddress("ops@example.com"),), host="127.0.0.1", port=server.port, tls="none"
        )
        await SmtpPostman().send(policy, MAIL)
        assert len(server.mails) == 1


async def test_nobody_there(certificates: Certificates) -> None:
    policy = AlertsPolicy(
        to=(MailAddress("ops@example.com"),), host="127.0.0.1", port=free_ports(1)[0]
    )
    with pytest.raises(MailNotSent, match=r"127\.0\.0\.1:\d+: "):
        await SmtpPostman().try_out(policy)
