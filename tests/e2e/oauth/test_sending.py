"""An account that logs in by tokens sends by them too."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.exim import Exim
from tests.e2e.oauth.client import introspect
from tests.e2e.oauth.mail_server import TokenDovecot
from tests.e2e.oauth.server import OAuthServer
from tests.e2e.oauth.test_proxy import Stage
from tests.e2e.senders import connect
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

MAIL = b"To: bob@example.org\r\nMessage-ID: <token@example.org>\r\n\r\nText\r\n"


def test_consent_lets_the_account_send(
    tmp_path: Path,
    certificates: Certificates,
    oauth_server: OAuthServer,
    token_dovecot: TokenDovecot,
    exim: Exim,
) -> None:
    smtp = {
        "host": exim.host,
        "port": exim.tls_port,
        "tls": "implicit",
        "ca_file": str(certificates.ca_file),
    }
    stage = Stage(tmp_path, certificates, oauth_server, token_dovecot, smtp=smtp)
    exim.forget()
    try:
        with_no_consent = pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.7\.8")
        with sending(stage) as session, with_no_consent:
            send(session)
        stage.authorize()
        assert stage.sync().returncode == 0
        trust_tokens(stage, exim)
        with sending(stage) as session:
            assert send(session) == {}
        eventually(lambda: len(exim.arrived()) == 1, what="the mail", otherwise=exim.log)
        assert exim.logins()[-1] == ("token", stage.user.name)
        log = stage.proxy.log()
        assert not [secret for secret in oauth_server.secrets_of(stage.user.name) if secret in log]
    finally:
        stage.proxy.kill()


def trust_tokens(stage: Stage, exim: Exim) -> None:
    """Those that give access now."""
    for secret in stage.server.secrets_of(stage.user.name):
        if introspect(stage.server, secret).get("token_type") == "Bearer":
            exim.add_token(stage.user, secret)


def sending(stage: Stage) -> smtplib.SMTP:
    """A session with the proxy."""
    session = connect(stage.proxy.smtp_endpoint("starttls"))
    session.login(f"{stage.user.name}+laptop", stage.user.password)
    return session


def send(session: smtplib.SMTP) -> dict[str, tuple[int, bytes]]:
    return session.sendmail("alice@example.org", ["bob@example.org"], MAIL)
