"""The person's browser: cookies, redirects, and the forms of oidc-provider filled in."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

TIMEOUT = 60.0
STEPS = 10
"""More pages than any sign-in has."""


class Refused(Exception):
    """The server showed an error, or asked the same again; with its page."""


class Page:
    """What a browser is shown: where it is, and the first form with its hidden inputs."""

    def __init__(self, url: str, html: str) -> None:
        self.url = url
        self.html = html
        self.action = ""
        self.inputs: dict[str, str] = {}
        self.cancel = ""
        reader = _Reader(self)
        reader.feed(html)
        reader.close()


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        page = self._page
        if tag == "form" and not page.action:
            page.action = urljoin(page.url, found["action"])
        elif tag == "input" and "name" in found:
            page.inputs[found["name"]] = found.get("value", "")
        elif tag == "a" and found.get("href", "").endswith("/abort"):
            page.cancel = urljoin(page.url, found["href"])


class _Away(Exception):
    """A redirect that leads away from the server."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows them within one server."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            raise _Away(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class Browser:
    """One session of a person; cookies last as long as it."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._opener = urllib.request.build_opener(
            # No proxy of the environment is asked.
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(CookieJar()),
            _Redirects(),
        )
        self._opener.addheaders = [("Accept", "text/html")]

    def get(self, url: str) -> str:
        """Raises:
        Refused: the answer is an error.
        """
        return self._open(url).html

    def _open(self, url: str, form: dict[str, str] | None = None) -> Page:
        data = None if form is None else urlencode(form).encode()
        try:
            with self._opener.open(url, data, timeout=TIMEOUT) as answer:
                return Page(answer.url, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(f"{error.code}: {error.read().decode()}") from None

    def redirect(self, url: str, user: str, *, consent: bool = True) -> str:
        """Sign in as `user` and consent, or not; returns where the server sends the browser then.

        Raises:
            Refused: nowhere.
        """
        try:
            page = self._sign_in(self._open(url), user, consent=consent)
        except _Away as away:
            return away.url
        raise Refused(page.html)

    def approve_device(self, verification_uri: str, user_code: str, user: str) -> None:
        """Raises:
        Refused: there is no such code, or no longer.
        """
        page = self._sign_in(self._enter(verification_uri, user_code), user)
        if "Sign-in Success" not in page.html:
            raise Refused(page.html)

    def deny_device(self, verification_uri: str, user_code: str) -> None:
        """Raises:
        Refused: there is no such code, or no longer.
        """
        page = self._enter(verification_uri, user_code)
        self._open(page.action, page.inputs | {"abort": "yes"})

    def _enter(self, verification_uri: str, user_code: str) -> Page:
        """Returns the page that asks to confirm."""
        page = self._open(verification_uri)
        page = self._open(page.action, page.inputs | {"user_code": user_code})
        if "confirm" not in page.inputs:
            raise Refused(page.html)
        return page

    def _sign_in(self, page: Page, user: str, *, consent: bool = True) -> Page:
        """Fill in form after form."""
        for _ in range(STEPS):
            if not page.action:
                return page
            form = page.inputs
            if "login" in form:
                form |= {"login": user, "password": "any"}
            elif not consent:
                return self._open(page.cancel)
            page = self._open(page.action, form)
        raise Refused(page.html)
