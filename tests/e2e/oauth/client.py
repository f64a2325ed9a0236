"""OAuth by hand: the requests an honest client makes, for tests of what stands around the proxy.

Also how a test comes by tokens without asking the proxy: `sign_in`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from tests.e2e.oauth.server import DEVICE_GRANT, MAIL_SERVER, PUBLIC, Client, OAuthServer

TIMEOUT = 60.0


class OAuthError(Exception):
    """The JSON of an error response (RFC 6749, section 5.2)."""

    def __init__(self, status: int, said: dict[str, Any]) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status
        self.error = said["error"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave."""

    access: str
    refresh: str | None
    seconds: int


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """One authorization request with its PKCE verifier (RFC 7636) and state."""

    server: OAuthServer
    client: Client = PUBLIC
    redirect_uri: str = "http://127.0.0.1:9/callback"
    """Nobody needs to listen there: `sign_in` reads the code off it without opening it."""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(8))

    def url(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": self.redirect_uri,
            "scope": self.server.scope,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self.server.authorization_endpoint}?{urlencode(query)}"

    def code(self, redirected: str) -> str:
        """Out of the URI that the browser was sent to."""
        said = parse_qs(urlsplit(redirected).query)
        assert said["state"] == [self.state]
        return said["code"][0]

    def exchange(self, code: str) -> Tokens:
        """Raises:
        OAuthError: the server gives none.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
        }
        return _tokens(self.server, self.client, form)


def sign_in(server: OAuthServer, user: str, client: Client = PUBLIC) -> Tokens:
    """Tokens by authorization code and PKCE, with a person who consents."""
    request = CodeRequest(server, client)
    return request.exchange(request.code(server.redirect(request.url(), user)))


def refresh(server: OAuthServer, token: str | None, client: Client = PUBLIC) -> Tokens:
    """Raises:
    OAuthError: such as `invalid_grant`.
    """
    assert token is not None
    return _tokens(server, client, {"grant_type": "refresh_token", "refresh_token": token})


def ask_device(server: OAuthServer, client: Client = PUBLIC) -> dict[str, Any]:
    """The device authorization response (RFC 8628, section 3.2)."""
    return post(server, server.device_endpoint, client, {"scope": server.scope})


def poll_device(server: OAuthServer, device_code: str, client: Client = PUBLIC) -> Tokens:
    """Ask once.

    Raises:
        OAuthError: such as `authorization_pending`.
    """
    return _tokens(server, client, {"grant_type": DEVICE_GRANT, "device_code": device_code})


def introspect(server: OAuthServer, token: str) -> dict[str, Any]:
    """What a mail server is told (RFC 7662)."""
    return post(server, server.introspection_endpoint, MAIL_SERVER, {"token": token})


def _tokens(server: OAuthServer, client: Client, form: dict[str, str]) -> Tokens:
    said = post(server, server.token_endpoint, client, form)
    return Tokens(said["access_token"], said.get("refresh_token"), said["expires_in"])


def post(server: OAuthServer, url: str, client: Client, form: dict[str, str]) -> dict[str, Any]:
    """Raises:
    OAuthError: the answer is one.
    """
    headers: dict[str, str] = {}
    if client.method == "client_secret_basic":
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form = form | {"client_id": client.id}
    if client.method == "client_secret_post":
        form = form | {"client_secret": client.secret}
    request = urllib.request.Request(url, urlencode(form).encode(), headers)
    try:
        with _opener(server.context).open(request, timeout=TIMEOUT) as answer:
            said: dict[str, Any] = json.load(answer)
            return said
    except urllib.error.HTTPError as error:
        with error:
            raise OAuthError(error.code, json.load(error)) from None


def _opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    # No proxy of the environment is asked.
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
