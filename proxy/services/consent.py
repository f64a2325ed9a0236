"""OAuth 2.0 as a client: asking a person for consent, and tokens from what they gave.

Authorization code with PKCE on a loopback redirect (RFC 8252, RFC 7636), the device flow (RFC 8628)
and refresh tokens (RFC 6749 §6). oauthlib makes the requests and reads the answers.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from oauthlib.oauth2 import DeviceClient, OAuth2Error, WebApplicationClient

from proxy.domain.errors import BadRequest, ConsentNeeded, UpstreamUnreachable, UpstreamUnusable
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.world import Web

VERIFIER_LENGTH = 64
"""Characters (RFC 7636 §4.1 allows 43 to 128)."""

DEFAULT_LIFETIME = 600.0
"""Seconds an access token is used where the server does not say how long it holds."""

POLL_EVERY = 5.0
"""Seconds between two questions in the device flow, and what `slow_down` adds (RFC 8628 §3.5)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token server gave."""

    access_token: str = field(repr=False)
    lifetime: float
    """Seconds."""
    refresh_token: str = field(repr=False)
    """"" where it gave no new one."""


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person enters where."""

    user_code: str
    verification_url: str
    expires_in: float
    """Seconds."""
    code: str = field(repr=False)
    interval: float


class Consent:
    """With one provider, for one account; `username` is a hint for whom to log in."""

    def __init__(self, web: Web, server: UpstreamServer, username: str) -> None:
        """Raises:
        BadRequest: the configuration does not say how.
        """
        for key in ("oauth_client_id", "oauth_token_url"):
            if not getattr(server, key):
                raise BadRequest(f"{key} is needed under [upstream], or a provider that knows it")
        self._web = web
        self._server = server
        self._username = username
        self._client = WebApplicationClient(server.oauth_client_id)
        self._verifier = self._client.create_code_verifier(VERIFIER_LENGTH)
        self._redirect_url = ""

    # --- by a browser ---------------------------------------------------------------------------

    def url(self, redirect_url: str, state: str) -> str:
        """What to open in a browser; it ends at `redirect_url` with a code."""
        server = self._server
        if not server.oauth_authorization_url:
            raise BadRequest("oauth_authorization_url is needed under [upstream]")
        self._redirect_url = redirect_url
        url: str = self._client.prepare_request_uri(
            _as_secure(server.oauth_authorization_url),
            redirect_uri=redirect_url,
            scope=server.oauth_scope,
            state=state,
            code_challenge=self._client.create_code_challenge(self._verifier, "S256"),
            code_challenge_method="S256",
            login_hint=self._username,
            # Without these Google gives a refresh token the first time alone; others ignore them.
            access_type="offline",
            prompt="consent",
        )
        return url.replace(
            _as_secure(server.oauth_authorization_url), server.oauth_authorization_url, 1
        )

    async def finish(self, redirected_to: str, state: str) -> Grant:
        """Turn the address that the browser ended at into tokens.

        Raises:
            BadRequest: it is not the end of this request.
            ConsentNeeded: the person has refused.
            UpstreamUnreachable, UpstreamUnusable: the token server gives none.
        """
        try:
            answer = self._client.parse_request_uri_response(_as_secure(redirected_to), state)
        except OAuth2Error as error:
            if error.error == "access_denied":
                raise ConsentNeeded("consent was refused") from None
            raise BadRequest(f"not the answer to this request: {_told(error)}") from None
        body = self._client.prepare_request_body(
            code=answer["code"],
            redirect_uri=self._redirect_url,
            code_verifier=self._verifier,
        )
        return await self._grant(body)

    # --- without a browser ----------------------------------------------------------------------

    async def begin_device(self) -> DeviceCode:
        """Raises:
        BadRequest: the provider has no device flow.
        UpstreamUnreachable, UpstreamUnusable: the token server refuses.
        """
        server = self._server
        if not server.oauth_device_url:
            raise BadRequest("this provider has no device flow: leave out --device")
        fields = {
            "client_id": server.oauth_client_id,
            "scope": server.oauth_scope,
            **self._secret(),
        }
        status, text = await self._web.post_form(server.oauth_device_url, fields)
        try:
            answer: dict[str, Any] = json.loads(text)
            return DeviceCode(
                user_code=str(answer["user_code"]),
                # Google calls it otherwise.
                verification_url=str(answer.get("verification_uri") or answer["verification_url"]),
                expires_in=float(answer["expires_in"]),
                code=str(answer["device_code"]),
                interval=float(answer.get("interval", POLL_EVERY)),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UpstreamUnusable(f"no device code, status {status}: {text[:200]}") from None

    async def finish_device(self, code: DeviceCode) -> Grant:
        """Wait until the person has entered the code.

        Raises:
            ConsentNeeded: they have refused, or not entered it in time.
            UpstreamUnreachable, UpstreamUnusable: the token server gives no tokens.
        """
        client = DeviceClient(self._server.oauth_client_id)
        body = client.prepare_request_body(code.code, include_client_id=True)
        pause = code.interval
        try:
            async with asyncio.timeout(code.expires_in):
                while True:
                    await asyncio.sleep(pause)
                    try:
                        return await self._grant(body)
                    except _NotYet as error:
                        pause += POLL_EVERY if error.slow_down else 0.0
        except TimeoutError:
            raise ConsentNeeded("the code was not entered in time") from None

    # --- from then on ---------------------------------------------------------------------------

    async def refresh(self, refresh_token: str) -> Grant:
        """Raises:
        ConsentNeeded: the consent has ended.
        UpstreamUnreachable, UpstreamUnusable: the token server gives no tokens.
        """
        client_id = self._server.oauth_client_id
        body = self._client.prepare_refresh_body(refresh_token=refresh_token, client_id=client_id)
        return await self._grant(body)

    async def _grant(self, body: str) -> Grant:
        fields = {**dict(parse_qsl(body, keep_blank_values=True)), **self._secret()}
        status, text = await self._web.post_form(self._server.oauth_token_url, fields)
        if status >= 500 or status == 429:
            raise UpstreamUnreachable(f"the token server answers with status {status}")
        try:
            token = self._client.parse_request_body_response(text)
        except OAuth2Error as error:
            raise _refused(error) from None
        except (ValueError, TypeError, AttributeError):
            raise UpstreamUnreachable(f"no token, status {status}") from None
        return Grant(
            access_token=str(token["access_token"]),
            lifetime=float(token.get("expires_in") or DEFAULT_LIFETIME),
            refresh_token=str(token.get("refresh_token") or ""),
        )

    def _secret(self) -> dict[str, str]:
        secret = self._server.oauth_client_secret
        return {"client_secret": secret} if secret else {}


class _NotYet(Exception):
    def __init__(self, *, slow_down: bool) -> None:
        self.slow_down = slow_down


def _refused(error: OAuth2Error) -> Exception:
    """RFC 6749 §5.2, RFC 8628 §3.5."""
    match error.error:
        case "authorization_pending" | "slow_down":
            return _NotYet(slow_down=error.error == "slow_down")
        case "invalid_grant" | "interaction_required" | "consent_required" | "login_required":
            return ConsentNeeded(f"consent has ended: {_told(error)}")
        case "access_denied" | "expired_token":
            return ConsentNeeded(f"consent was not given: {_told(error)}")
        case "temporarily_unavailable" | "server_error":
            return UpstreamUnreachable(f"the token server: {_told(error)}")
    return UpstreamUnusable(f"the token server refuses: {_told(error)}")


def _told(error: OAuth2Error) -> str:
    return f"{error.error}: {error.description}"[:300] if error.description else str(error.error)


def _as_secure(url: str) -> str:
    """oauthlib takes no address without TLS; one of this machine's own needs none (RFC 8252 §7.3),
    and the configuration has refused every other."""
    return "https" + url.removeprefix("http") if url.startswith("http:") else url
