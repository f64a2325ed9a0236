"""The Dovecot that tests of OAuth stand on, by itself.

What it says to a bad token is here as it was seen, for whoever writes a client.
"""

from __future__ import annotations

import base64
import json
import poplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import User
from tests.e2e.oauth.client import introspect, refresh, sign_in
from tests.e2e.oauth.mail_server import TokenDovecot
from tests.e2e.oauth.server import OAuthServer
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

MECHANISMS = ("XOAUTH2", "OAUTHBEARER")


def first_message(mechanism: str, user: str, token: str) -> bytes:
    """RFC 7628, section 3.1; XOAUTH2 is the same without the GS2 header."""
    start = f"user={user}" if mechanism == "XOAUTH2" else f"n,a={user},"
    return base64.b64encode(f"{start}\1auth=Bearer {token}\1\1".encode())


def attempt(session: poplib.POP3, mechanism: str, user: str, token: str) -> bytes:
    """AUTH with an initial response; returns the first line of the answer."""
    first = first_message(mechanism, user, token).decode()
    session.sock.sendall(f"AUTH {mechanism} {first}\r\n".encode())
    return answer(session)


def answer(session: poplib.POP3, line: bytes | None = None) -> bytes:
    """The next line from the server, after ours if there is one."""
    if line is not None:
        session.sock.sendall(line + b"\r\n")
    said: bytes = session.file.readline()
    return said.removesuffix(b"\r\n")


@contextmanager
def connected(server: TokenDovecot) -> Iterator[poplib.POP3]:
    session = poplib.POP3(server.host, server.port, timeout=30)
    try:
        yield session
    finally:
        session.close()


def assert_refused(server: TokenDovecot, mechanism: str, user: User, token: str) -> dict[str, Any]:
    """Returns what the challenge said."""
    with connected(server) as session:
        said = attempt(session, mechanism, user.name, token)
        assert said.startswith(b"+ ")
        challenge: dict[str, Any] = json.loads(base64.b64decode(said[2:]))
        assert answer(session, b"") == b"-ERR [AUTH] Authentication failed."
        return challenge


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_token_opens_its_mailbox(
    oauth_server: OAuthServer,
    token_dovecot: TokenDovecot,
    certificates: Certificates,
    mechanism: str,
) -> None:
    user = token_dovecot.add_user()
    token_dovecot.deliver(user, b"Subject: one\n\n")
    token = sign_in(oauth_server, user.name).access
    context = ssl.create_default_context(cafile=certificates.ca_file)
    secure = poplib.POP3_SSL(token_dovecot.host, token_dovecot.tls_port, context=context)
    for session in (poplib.POP3(token_dovecot.host, token_dovecot.port), secure):
        assert session.capa()["SASL"] == ["OAUTHBEARER", "XOAUTH2"]
        assert attempt(session, mechanism, user.name, token) == b"+OK Logged in."
        assert session.stat()[0] == 1
        session.quit()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_bad_token_is_answered_with_a_challenge_first(
    oauth_server: OAuthServer, token_dovecot: TokenDovecot, mechanism: str
) -> None:
    user, other = token_dovecot.add_user(), token_dovecot.add_user()
    where = {"openid-configuration": f"{oauth_server.issuer}/.well-known/openid-configuration"}
    challenge = {
        "XOAUTH2": {"status": "401", "schemes": "bearer", "scope": "mail", **where},
        "OAUTHBEARER": {"status": "invalid_token", **where},
    }[mechanism]
    assert assert_refused(token_dovecot, mechanism, user, "nonsense") == challenge
    tokens = sign_in(oauth_server, user.name)
    assert assert_refused(token_dovecot, mechanism, other, tokens.access) == challenge
    assert assert_refused(token_dovecot, mechanism, user, str(tokens.refresh)) == challenge

    with connected(token_dovecot) as session:
        attempt(session, mechanism, user.name, "nonsense")
        assert answer(session, b"*") == b"-ERR Authentication aborted by client."
        attempt(session, mechanism, user.name, "nonsense")
        assert answer(session, b"AQ==") == b"-ERR [AUTH] Authentication failed."
        assert attempt(session, mechanism, user.name, tokens.access) == b"+OK Logged in."


def test_a_token_is_refused_as_soon_as_it_is_revoked_or_expired(
    oauth_server: OAuthServer, token_dovecot: TokenDovecot
) -> None:
    user = token_dovecot.add_user()
    with oauth_server.policy(access_token_seconds=1):
        short = sign_in(oauth_server, user.name)
    eventually(lambda: not introspect(oauth_server, short.access)["active"], what="it to expire")
    assert_refused(token_dovecot, "XOAUTH2", user, short.access)
    token = refresh(oauth_server, short.refresh).access
    with connected(token_dovecot) as session:
        assert attempt(session, "XOAUTH2", user.name, token) == b"+OK Logged in."
    oauth_server.revoke_access_tokens(user.name)
    assert_refused(token_dovecot, "XOAUTH2", user, token)


def test_with_the_authorization_server_down_the_mail_server_fails_for_now(
    oauth_server: OAuthServer, token_dovecot: TokenDovecot
) -> None:
    user = token_dovecot.add_user()
    token = sign_in(oauth_server, user.name).access
    oauth_server.stop()
    try:
        with connected(token_dovecot) as session:
            said = attempt(session, "XOAUTH2", user.name, token)
    finally:
        oauth_server.start()
    assert said.startswith(b"-ERR [SYS/TEMP] ")
    with connected(token_dovecot) as session:
        assert attempt(session, "XOAUTH2", user.name, token) == b"+OK Logged in."


def test_passwords_are_refused(token_dovecot: TokenDovecot) -> None:
    """Although CAPA says USER: so does Dovecot whatever its mechanisms are."""
    user = token_dovecot.add_user()
    with connected(token_dovecot) as session:
        assert "USER" in session.capa()
        session.user(user.name)
        with pytest.raises(poplib.error_proto, match="Unsupported authentication mechanism"):
            session.pass_(user.password)
