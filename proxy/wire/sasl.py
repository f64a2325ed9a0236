"""SASL mechanisms, server side: PLAIN (RFC 4616) and LOGIN (as clients use it; no RFC).

A mechanism is given the decoded responses one by one and answers with the next challenge or with
the result.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Protocol


class SaslError(Exception):
    """The client's response is malformed; the text may be shown to it."""


@dataclass(frozen=True, slots=True)
class Challenge:
    data: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """What the exchange yields."""

    username: str
    password: bytes = field(repr=False)


class Mechanism(Protocol):
    def step(self, response: bytes | None) -> Challenge | Identity:
        """`response` is None when the client sent no initial response.

        Raises:
            SaslError: malformed.
        """


def decode_name(data: bytes) -> str:
    """A user name as text: UTF-8 without control characters.

    Raises:
        SaslError: it is not.
    """
    try:
        name = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("user name is not UTF-8") from None
    if not name or not name.isprintable():
        raise SaslError("user name is empty or has control characters")
    return name


class Plain:
    """One message: [authzid] NUL authcid NUL password."""

    def step(self, response: bytes | None) -> Challenge | Identity:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslError("not a PLAIN response")
        authzid, authcid, password = parts
        if authzid not in (b"", authcid):
            raise SaslError("acting for another user is not supported")
        return Identity(decode_name(authcid), password)


class Login:
    """Two questions, one answer each."""

    def __init__(self) -> None:
        self._username: str | None = None

    def step(self, response: bytes | None) -> Challenge | Identity:
        if response is None:
            return Challenge(b"Username:")
        if self._username is None:
            self._username = decode_name(response)
            return Challenge(b"Password:")
        return Identity(self._username, response)


MECHANISMS: dict[str, type[Plain] | type[Login]] = {"PLAIN": Plain, "LOGIN": Login}


def encode(data: bytes) -> bytes:
    """Base64 as it goes on the line."""
    return base64.b64encode(data)


def decode(line: bytes) -> bytes:
    """The octets of a base64 line.

    Raises:
        SaslError: not base64.
    """
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise SaslError("not base64") from None
