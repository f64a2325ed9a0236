"""SASL mechanisms, server side: PLAIN (RFC 4616), LOGIN (as clients use it; no RFC), EXTERNAL
(RFC 4422 appendix A), SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).

A mechanism is given the decoded responses one by one and answers with the next challenge or with
an event for the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.wire.pop3_events import (
    CertificateLogin,
    LoginEvent,
    PasswordLogin,
    ScramLogin,
    ScramStart,
)
from proxy.wire.sasl import SaslError, check_password, decode_name
from proxy.wire.scram import ScramKeys, ScramServer


@dataclass(frozen=True, slots=True)
class Challenge:
    data: bytes


Step = Challenge | LoginEvent | ScramStart


class Mechanism(Protocol):
    def step(self, response: bytes | None) -> Step:
        """`response` is None when the client sent no initial response.

        Raises:
            SaslError: malformed.
        """


class Plain:
    """One message: [authzid] NUL authcid NUL password."""

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslError("not a PLAIN response")
        authzid, authcid, password = parts
        username = decode_name(authcid)
        if authzid and decode_name(authzid) != username:
            raise SaslError("acting for another user is not supported")
        return PasswordLogin(username, check_password(password))


class Login:
    """Two questions, one answer each."""

    def __init__(self) -> None:
        self._username: str | None = None

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"Username:")
        if self._username is None:
            self._username = decode_name(response)
            return Challenge(b"Password:")
        return PasswordLogin(self._username, check_password(response))


class External:
    """One message: the login name asked for, or nothing."""

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        return CertificateLogin(decode_name(response) if response else "")


class Scram:
    """The client speaks first; between its two messages the driver looks up keys."""

    def __init__(self, *, plus: bool, end_point: bytes | None) -> None:
        self._server = ScramServer(plus=plus, plus_announced=False, end_point=end_point)
        self._candidates: Sequence[ScramKeys] | None = None
        self._proved: ScramLogin | None = None

    def step(self, response: bytes | None) -> Step:
        if self._proved is not None:
            # RFC 5802 §5: the client has seen our proof; its answer to that is empty.
            if response:
                raise SaslError("an empty response is expected")
            return self._proved
        if response is None:
            return Challenge(b"")
        if self._candidates is None:
            return ScramStart(self._server.first(response).username)
        found, message = self._server.final(response, self._candidates)
        if found is None:
            return ScramLogin(None)
        self._proved = ScramLogin(found)
        return Challenge(message)

    def challenge(
        self, nonce: str, salt: bytes, iterations: int, candidates: Sequence[ScramKeys]
    ) -> Challenge:
        """The server-first-message, after `ScramStart`."""
        self._candidates = candidates
        return Challenge(self._server.challenge(nonce=nonce, salt=salt, iterations=iterations))


def announced(*, scram: bool, certificate: bool) -> list[str]:
    """Mechanisms that suit every client; SCRAM-SHA-256-PLUS does not, see docs/protocol.md."""
    return [
        "PLAIN",
        "LOGIN",
        *(["SCRAM-SHA-256"] if scram else []),
        *(["EXTERNAL"] if certificate else []),
    ]


def named(name: str, *, certificate: bool, end_point: bytes | None) -> Mechanism:
    """The mechanism that a client asks for, announced or not; `certificate`: it has shown one.

    Raises:
        SaslError: there is none.
    """
    match name:
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS":
            return Scram(plus=name.endswith("-PLUS"), end_point=end_point)
        case "EXTERNAL" if certificate:
            return External()
        case "EXTERNAL":
            raise SaslError("there is no client certificate that is known here")
    raise SaslError("unknown authentication mechanism")
