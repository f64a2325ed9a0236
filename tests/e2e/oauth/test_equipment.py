"""The authorization server that tests of OAuth stand on, by itself."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.certificates import Certificates
from tests.e2e.oauth.browser import Refused
from tests.e2e.oauth.client import (
    CodeRequest,
    OAuthError,
    ask_device,
    introspect,
    poll_device,
    refresh,
    sign_in,
)
from tests.e2e.oauth.server import (
    BASIC,
    DEVICE_GRANT,
    POST,
    PUBLIC,
    Client,
    OAuthServer,
    TokenRequest,
)
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e


def error_of(caught: pytest.ExceptionInfo[OAuthError]) -> str:
    return str(caught.value.error)


class _Landing(BaseHTTPRequestHandler):
    """A loopback redirect URI: shows the browser, once, its own query."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def landing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Landing) as server:
        Thread(target=server.handle_request, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/callback"


def test_the_browser_opens_a_redirect_uri_of_any_port(oauth_server: OAuthServer) -> None:
    with landing() as redirect_uri:
        request = CodeRequest(oauth_server, redirect_uri=redirect_uri)
        shown = oauth_server.approve(request.url(), "ann@example.com")
    tokens = request.exchange(request.code(shown))
    said = introspect(oauth_server, tokens.access)
    assert said["active"] is True
    assert said["sub"] == said["username"] == said["email"] == "ann@example.com"
    assert said["exp"] - said["iat"] == tokens.seconds == 3600


def test_who_cancels_is_sent_back_with_access_denied(oauth_server: OAuthServer) -> None:
    with landing() as redirect_uri:
        request = CodeRequest(oauth_server, redirect_uri=redirect_uri)
        shown = oauth_server.deny(request.url(), "ann")
    assert "error=access_denied" in shown
    assert f"state={request.state}" in shown


def test_a_redirect_uri_of_another_path_is_refused(oauth_server: OAuthServer) -> None:
    request = CodeRequest(oauth_server, redirect_uri="http://127.0.0.1:9/elsewhere")
    with pytest.raises(Refused, match="invalid_redirect_uri"):
        oauth_server.redirect(request.url(), "ann")


def test_a_wrong_verifier_gets_nothing(oauth_server: OAuthServer) -> None:
    request = CodeRequest(oauth_server)
    code = request.code(oauth_server.redirect(request.url(), "ann"))
    with pytest.raises(OAuthError) as caught:
        CodeRequest(oauth_server).exchange(code)
    assert error_of(caught) == "invalid_grant"


@pytest.mark.parametrize("client", [PUBLIC, BASIC, POST], ids=lambda client: client.method)
def test_a_refresh_rotates_and_reuse_revokes(oauth_server: OAuthServer, client: Client) -> None:
    first = sign_in(oauth_server, "ann", client)
    second = refresh(oauth_server, first.refresh, client)
    assert second.refresh not in (None, first.refresh)
    with pytest.raises(OAuthError) as caught:
        refresh(oauth_server, first.refresh, client)
    assert error_of(caught) == "invalid_grant"
    assert introspect(oauth_server, second.access) == {"active": False}
    with pytest.raises(OAuthError):
        refresh(oauth_server, second.refresh, client)


def test_a_confidential_client_needs_its_secret(oauth_server: OAuthServer) -> None:
    tokens = sign_in(oauth_server, "ann", POST)
    with pytest.raises(OAuthError) as caught:
        refresh(oauth_server, tokens.refresh, Client(POST.id, "wrong", POST.method))
    assert caught.value.status == 401
    assert error_of(caught) == "invalid_client"


def test_rotation_and_refresh_tokens_can_be_off(oauth_server: OAuthServer) -> None:
    with oauth_server.policy(rotate=False):
        tokens = sign_in(oauth_server, "ann")
        assert refresh(oauth_server, tokens.refresh).refresh == tokens.refresh
    with oauth_server.policy(refresh_tokens=False):
        assert sign_in(oauth_server, "ann").refresh is None
    assert sign_in(oauth_server, "ann").refresh is not None


def test_revoked_tokens_are_inactive_for_that_user_alone(oauth_server: OAuthServer) -> None:
    gone, other = sign_in(oauth_server, "gone"), sign_in(oauth_server, "other")
    oauth_server.revoke_access_tokens("gone")
    assert introspect(oauth_server, gone.access) == {"active": False}
    fresh = refresh(oauth_server, gone.refresh)
    assert introspect(oauth_server, fresh.access)["active"] is True
    oauth_server.revoke_all("gone")
    assert introspect(oauth_server, fresh.access) == {"active": False}
    with pytest.raises(OAuthError) as caught:
        refresh(oauth_server, fresh.refresh)
    assert error_of(caught) == "invalid_grant"
    assert introspect(oauth_server, other.access)["active"] is True
    assert introspect(oauth_server, sign_in(oauth_server, "gone").access)["active"] is True


def test_a_device_polls_until_its_person_has_decided(oauth_server: OAuthServer) -> None:
    asked = ask_device(oauth_server)
    assert asked["interval"] == 1
    with pytest.raises(OAuthError) as caught:
        poll_device(oauth_server, asked["device_code"])
    assert error_of(caught) == "authorization_pending"
    oauth_server.approve_device(asked["verification_uri"], asked["user_code"], "ann")
    tokens = poll_device(oauth_server, asked["device_code"])
    assert introspect(oauth_server, tokens.access)["username"] == "ann"
    assert refresh(oauth_server, tokens.refresh).refresh != tokens.refresh

    with pytest.raises(Refused):
        oauth_server.approve_device(asked["verification_uri"], "WRONG-CODE", "ann")
    denied = ask_device(oauth_server)
    oauth_server.deny_device(denied["verification_uri"], denied["user_code"])
    with pytest.raises(OAuthError) as caught:
        poll_device(oauth_server, denied["device_code"])
    assert error_of(caught) == "access_denied"


def test_a_device_code_expires(oauth_server: OAuthServer) -> None:
    with oauth_server.policy(device_code_seconds=1, interval=7):
        asked = ask_device(oauth_server)
    assert (asked["expires_in"], asked["interval"]) == (1, 7)

    def expired() -> bool:
        with pytest.raises(OAuthError) as caught:
            poll_device(oauth_server, asked["device_code"])
        return error_of(caught) == "expired_token"

    eventually(expired, what="the device code to expire")


def test_token_requests_are_listed(oauth_server: OAuthServer) -> None:
    oauth_server.forget_token_requests()
    tokens = sign_in(oauth_server, "ann", BASIC)
    with oauth_server.answering_tokens((503, "<h1>Busy</h1>"), (400, {"error": "slow_down"})):
        with pytest.raises(json.JSONDecodeError):
            refresh(oauth_server, tokens.refresh, BASIC)
        with pytest.raises(OAuthError) as caught:
            poll_device(oauth_server, "any")
        assert error_of(caught) == "slow_down"
        refresh(oauth_server, tokens.refresh, BASIC)
    with pytest.raises(OAuthError):
        refresh(oauth_server, tokens.refresh, BASIC)
    assert oauth_server.token_requests() == [
        TokenRequest("authorization_code", BASIC.id, 200, scope="mail"),
        TokenRequest("refresh_token", None, 503),
        TokenRequest(DEVICE_GRANT, None, 400),
        TokenRequest("refresh_token", BASIC.id, 200, scope="mail"),
        TokenRequest("refresh_token", BASIC.id, 400, "invalid_grant"),
    ]


def ask(server: OAuthServer, request: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(request.encode())
    return connection


def test_paused_it_answers_late_and_only_who_has_waited(oauth_server: OAuthServer) -> None:
    oauth_server.forget_token_requests()
    lines = "POST /token HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    oauth_server.pause()
    try:
        ask(oauth_server, lines).close()
        waiting = ask(oauth_server, lines)
        assert select.select([waiting], [], [], 0.2)[0] == []
    finally:
        oauth_server.resume()
    with waiting:
        assert waiting.recv(12) == b"HTTP/1.1 400"
    assert len(oauth_server.token_requests()) == 1


def test_stopped_it_refuses_connections_and_forgets_nothing(oauth_server: OAuthServer) -> None:
    tokens = sign_in(oauth_server, "ann")
    oauth_server.stop()
    try:
        with pytest.raises(ConnectionRefusedError):
            ask(oauth_server, "")
    finally:
        oauth_server.start()
    assert refresh(oauth_server, tokens.refresh).access != tokens.access


def test_it_speaks_https(oidc_provider: Path, certificates: Certificates) -> None:
    with OAuthServer(oidc_provider, certificates) as server:
        assert server.token_endpoint.startswith("https://127.0.0.1:")
        tokens = sign_in(server, "ann")
        assert introspect(server, tokens.access)["username"] == "ann"
