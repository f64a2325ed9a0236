"""Passwords in what servers say: some repeat what they were sent."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.domain.model import Credentials
from proxy.wire import sasl


def secrets_of(credentials: Credentials) -> tuple[str, ...]:
    """How the password may stand there; without what is too short to be looked for."""
    password = credentials.password
    plain = b"\0" + credentials.username.encode() + b"\0" + password
    text = password.decode("utf-8", "replace")
    found = (sasl.encode(plain).decode(), sasl.encode(password).decode(), text)
    return tuple(secret for secret in found if len(secret) >= 3)


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with stars in the place of each of them."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
