"""SASL mechanisms, client side: PLAIN (RFC 4616), LOGIN (as servers use it; no RFC), CRAM-MD5
(RFC 2195), XOAUTH2 (Google's, which Microsoft and Yahoo use as well), OAUTHBEARER (RFC 7628),
EXTERNAL (RFC 4422 appendix A); and the digest of APOP (RFC 1939 §7). SCRAM is in `scram_client`;
`named` gives all of them.

All take octets and give octets: base64 and line ends are the caller's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal, Protocol

from proxy.wire.errors import RemoteProtocolError
from proxy.wire.scram_client import Binding, ScramClient

# RFC 1939 §7: a msg-id of RFC 822. Anything else is refused: with control characters in it, a man
# in the middle can find the password octet by octet through collisions of MD5 (CVE-2007-1558).
_TIMESTAMP = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_TIMESTAMP_LIMIT = 256


class ClientMechanism(Protocol):
    """One exchange."""

    first: bytes | None
    """What the client says first; None where the server does."""

    def respond(self, challenge: bytes) -> bytes:
        """Raises:
        RemoteProtocolError: not a challenge of this mechanism.
        """

    def check_success(self) -> None:
        """Upstream has said +OK, and has been told `first`, if there is one.

        Raises:
            RemoteProtocolError: the exchange was not over, or upstream has not proved itself, as
                this mechanism wants.
        """


class Plain:
    """The password as it is."""

    def __init__(self, username: bytes, password: bytes) -> None:
        self.first: bytes | None = b"\0" + username + b"\0" + password

    def respond(self, challenge: bytes) -> bytes:
        raise RemoteProtocolError("PLAIN has one step")

    def check_success(self) -> None:
        pass


class Login:
    """The password as it is, in answer to a question whose text differs from server to server."""

    first: bytes | None = None

    def __init__(self, username: bytes, password: bytes) -> None:
        self._answers = [password, username]

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise RemoteProtocolError("LOGIN has two steps")
        return self._answers.pop()

    def check_success(self) -> None:
        if self._answers:
            raise RemoteProtocolError("upstream let us in without asking for the password")


class CramMd5:
    first: bytes | None = None

    def __init__(self, username: bytes, password: bytes) -> None:
        self._username = username
        self._password = password
        self._answered = False

    def respond(self, challenge: bytes) -> bytes:
        if self._answered or not challenge:
            raise RemoteProtocolError("CRAM-MD5 has one challenge")
        self._answered = True
        digest = hmac.new(self._password, challenge, "md5").hexdigest()
        return self._username + b" " + digest.encode()

    def check_success(self) -> None:
        if not self._answered:
            raise RemoteProtocolError("upstream let us in without asking for the password")


class XOAuth2:
    """An OAuth 2.0 access token in Google's form."""

    def __init__(self, username: bytes, token: bytes) -> None:
        self._refused = False
        self.first: bytes | None = b"user=%b\1auth=Bearer %b\1\1" % (username, token)

    def respond(self, challenge: bytes) -> bytes:
        """The challenge says in JSON why not; an empty answer brings the -ERR."""
        self._refused = True
        return b""

    def check_success(self) -> None:
        if self._refused:
            raise RemoteProtocolError("upstream let us in with a token that it has refused")


class OAuthBearer:
    """An OAuth 2.0 access token in RFC 7628's form."""

    def __init__(self, username: bytes, token: bytes, *, host: str, port: int) -> None:
        self._refused = False
        # RFC 7628 §3.1: the GS2 header of RFC 5801, whose names escape "," and "=".
        name = username.replace(b"=", b"=3D").replace(b",", b"=2C")
        self.first: bytes | None = b"n,a=%b,\1host=%b\1port=%d\1auth=Bearer %b\1\1" % (
            name,
            host.encode("ascii", "replace"),
            port,
            token,
        )

    def respond(self, challenge: bytes) -> bytes:
        """The challenge says in JSON why not; this answer brings the -ERR (RFC 7628 §3.2.3)."""
        self._refused = True
        return b"\1"

    def check_success(self) -> None:
        if self._refused:
            raise RemoteProtocolError("upstream let us in with a token that it has refused")


def apop_timestamp(greeting: str) -> str | None:
    """The timestamp of a greeting whose server knows APOP; None: it does not, or not safely."""
    found = _TIMESTAMP.search(greeting)
    return found[0] if found and len(found[0]) <= _TIMESTAMP_LIMIT else None


def apop_digest(timestamp: str, password: bytes) -> str:
    """What APOP sends behind the name."""
    return hashlib.md5(timestamp.encode() + password, usedforsecurity=False).hexdigest()


class External:
    """TLS has shown who we are."""

    def __init__(self, username: bytes) -> None:
        self.first: bytes | None = username

    def respond(self, challenge: bytes) -> bytes:
        return self.first or b""

    def check_success(self) -> None:
        pass


def named(
    name: str,
    username: str,
    password: bytes,
    *,
    host: str,
    port: int,
    nonce: str,
    binding: Binding | None = None,
) -> ClientMechanism:
    """The mechanism of this name. Tokens are passwords; `host` and `port` are the server's.

    `nonce` is printable, and never used twice; `binding` is for what ends in -PLUS.
    """
    user = username.encode()
    match name:
        case "EXTERNAL":
            return External(user)
        case "PLAIN":
            return Plain(user, password)
        case "LOGIN":
            return Login(user, password)
        case "CRAM-MD5":
            return CramMd5(user, password)
        case "XOAUTH2":
            return XOAuth2(user, password)
        case "OAUTHBEARER":
            return OAuthBearer(user, password, host=host, port=port)
    digest: Literal["sha1", "sha256"] = "sha256" if "SHA-256" in name else "sha1"
    return ScramClient(digest, username, password, nonce=nonce, binding=binding)
