"""A real authorization server: the certified npm package oidc-provider, as a process on loopback.

It gives opaque access tokens whose introspection names the user as `sub`, `username` and `email`,
lets anybody in under any name, and keeps everything in memory until the process ends.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from tests.certificates import Certificates
from tests.e2e import npm
from tests.e2e.oauth.browser import Browser
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually

OIDC_PROVIDER = "oidc-provider@8.8.1"
"""The last 8.x: it runs on Node.js 18 and later."""
PROGRAM = Path(__file__).with_name("server.mjs")
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REDIRECT_PATHS = ("/", "/callback", "/oauth/callback")
Kind = Literal["AccessToken", "RefreshToken", "Grant"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it is registered; `method` is how it says its secret to the token endpoint."""

    id: str
    secret: str = ""
    method: Literal["none", "client_secret_basic", "client_secret_post"] = "none"


PUBLIC = Client("mail-proxy")
# The octets that RFC 6749 (section 2.3.1) wants form-encoded before base64 are in it.
BASIC = Client("mail-proxy-basic", "half: 50% + a b&c=d", "client_secret_basic")
POST = Client("mail-proxy-post", "half: 50% + a b&c=d", "client_secret_post")
MAIL_SERVER = Client("mail-server", "introspects", "client_secret_basic")


class Policy(TypedDict, total=False):
    """What the server does from now on; what is issued already keeps its lifetime."""

    access_token_seconds: int
    refresh_token_seconds: int
    device_code_seconds: int
    interval: int
    """Seconds between two polls for a device code; asked for, but not enforced."""
    rotate: bool
    """Each refresh gives a new refresh token. Using an old one again revokes the grant."""
    refresh_tokens: bool
    """Whether there are any, whatever scope is asked for."""


DEFAULTS = Policy(
    access_token_seconds=3600,
    refresh_token_seconds=86400,
    device_code_seconds=600,
    interval=1,
    rotate=True,
    refresh_tokens=True,
)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request that the token endpoint has answered."""

    grant_type: str | None
    client_id: str | None
    """None when the server did not believe it, or was told what to answer."""
    status: int
    error: str | None = None
    scope: str | None = None
    """What was granted."""


class OAuthServer:
    """Started by its constructor; `close` it, or use it as a context manager."""

    client = PUBLIC
    client_id = PUBLIC.id
    scope = "mail offline_access"

    def __init__(
        self,
        modules: Path,
        certificates: Certificates | None = None,
        redirect_paths: Sequence[str] = REDIRECT_PATHS,
    ) -> None:
        """`modules` is where `install` put the package. With certificates it speaks https.

        A redirect URI is any port of 127.0.0.1, ::1 or localhost with one of `redirect_paths`.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="oauth"))
        self._log = self._folder / "log"
        self.context = (
            ssl.create_default_context(cafile=certificates.ca_file) if certificates else None
        )
        ready = self._folder / "ready"
        settings: dict[str, Any] = {
            "modules": str(modules),
            "clients": _registrations(redirect_paths),
            "scopes": self.scope.split(),
            "ready": str(ready),
        }
        if certificates:
            settings["certificate"] = str(certificates.certificate)
            settings["private_key"] = str(certificates.private_key)
        file = self._folder / "settings.json"
        file.write_text(json.dumps(settings))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                bound(["node", str(PROGRAM), str(file)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(
            lambda: ready.exists() or self._ended(),
            what="the authorization server to be ready",
            otherwise=self.log,
        )
        ports = json.loads(ready.read_text())
        self.port: int = ports["port"]
        self._control: int = ports["control"]
        self.issuer = f"http{'s' if certificates else ''}://127.0.0.1:{self.port}"
        self._order("policy", DEFAULTS)
        endpoints = json.loads(
            self.browser().get(self.issuer + "/.well-known/openid-configuration")
        )
        self.authorization_endpoint: str = endpoints["authorization_endpoint"]
        self.token_endpoint: str = endpoints["token_endpoint"]
        self.device_endpoint: str = endpoints["device_authorization_endpoint"]
        self.introspection_endpoint: str = endpoints["introspection_endpoint"]
        self.revocation_endpoint: str = endpoints["revocation_endpoint"]

    @staticmethod
    def install(folder: Path) -> None:
        """Raises:
        CannotInstall: npm or its registry cannot be had.
        """
        npm.install(OIDC_PROVIDER, folder)

    def __enter__(self) -> OAuthServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; what it has granted is gone with it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self) -> bool:
        assert self._process.poll() is None, f"the authorization server ended:\n{self.log()}"
        return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _order(self, order: str, argument: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=30)
        try:
            connection.request("POST", "/", json.dumps({order: argument}))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    # --- the person -----------------------------------------------------------------------------

    def browser(self) -> Browser:
        """A fresh one: nobody is signed in."""
        return Browser(self.context)

    def approve(self, url: str, user: str) -> str:
        """Open an authorization URL, sign in, consent; returns the page at the redirect URI."""
        browser = self.browser()
        return browser.get(browser.redirect(url, user))

    def deny(self, url: str, user: str) -> str:
        """The same, but the person signs in and then cancels: `error=access_denied`."""
        browser = self.browser()
        return browser.get(browser.redirect(url, user, consent=False))

    def redirect(self, url: str, user: str, *, consent: bool = True) -> str:
        """The redirect URI with its query that the browser is sent to, not opened."""
        return self.browser().redirect(url, user, consent=consent)

    def approve_device(self, verification_uri: str, user_code: str, user: str) -> None:
        """Raises:
        Refused: there is no such code, or no longer.
        """
        self.browser().approve_device(verification_uri, user_code, user)

    def deny_device(self, verification_uri: str, user_code: str) -> None:
        """Raises:
        Refused: there is no such code, or no longer.
        """
        self.browser().deny_device(verification_uri, user_code)

    # --- what the server does -------------------------------------------------------------------

    @contextmanager
    def policy(self, **changes: Unpack[Policy]) -> Iterator[None]:
        """Another policy for a while, then the default again."""
        self._order("policy", changes)
        try:
            yield
        finally:
            self._order("policy", DEFAULTS)

    def revoke_all(self, user: str) -> None:
        """Refresh gives `invalid_grant`, access tokens are inactive; the user may consent anew."""
        self._revoke(user, "Grant", "RefreshToken", "AccessToken")

    def revoke_access_tokens(self, user: str) -> None:
        """Before their time; the refresh token gets another."""
        self._revoke(user, "AccessToken")

    def _revoke(self, user: str, *kinds: Kind) -> None:
        self._order("revoke", {"user": user, "kinds": kinds})

    def secrets_of(self, user: str) -> list[str]:
        """All access and refresh tokens that are good, as programs hold them."""
        secrets: list[str] = self._order("tokens", {"user": user})
        return secrets

    def token_requests(self) -> list[TokenRequest]:
        """All since the start or since `forget_token_requests`, oldest first."""
        return [TokenRequest(**request) for request in self._order("requests")]

    def forget_token_requests(self) -> None:
        self._order("forget_requests")

    @contextmanager
    def answering_tokens(self, *answers: tuple[int, object]) -> Iterator[None]:
        """The next requests for tokens get these instead: each a status and a JSON object or text.

        For what oidc-provider never says by itself, such as `slow_down` or a 503.
        """
        canned = [
            {"status": status, "body": body, "type": "html" if isinstance(body, str) else "json"}
            for status, body in answers
        ]
        self._order("can", canned)
        try:
            yield
        finally:
            self._order("can", [])

    # --- trouble --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse connections and end those there are; what is granted stays granted."""
        self._order("close")

    def start(self) -> None:
        """After `stop`, on the same port."""
        self._order("open")

    def pause(self) -> None:
        """Take requests and answer nothing."""
        self._order("pause")

    def resume(self) -> None:
        """Answer again, also what is still waiting; who has hung up meanwhile was never heard."""
        self._order("resume")


def _registrations(paths: Sequence[str]) -> list[dict[str, object]]:
    hosts = ("127.0.0.1", "[::1]", "localhost")
    redirects = [f"http://{host}{path}" for host in hosts for path in paths]
    grants = ["authorization_code", "refresh_token", DEVICE_GRANT]
    ours: list[dict[str, object]] = [
        {"application_type": "native", "redirect_uris": redirects, "grant_types": grants}
        | _identity(client)
        for client in (PUBLIC, BASIC, POST)
    ]
    nothing: dict[str, object] = {"redirect_uris": [], "grant_types": [], "response_types": []}
    return [*ours, nothing | _identity(MAIL_SERVER)]


def _identity(client: Client) -> dict[str, object]:
    said: dict[str, object] = {
        "client_id": client.id,
        "token_endpoint_auth_method": client.method,
    }
    return said | ({"client_secret": client.secret} if client.secret else {})
