"""Where the configuration says that a password is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class PasswordSource:
    """Nothing of it has been read or run. What it says is the operator's secret as well: words of a
    command may hold a password."""

    kind: Literal["file", "variable", "command"]
    value: tuple[str, ...] = field(repr=False)
    """An absolute path, a variable's name, or the words of a command."""
    shown: str = field(repr=False)
    """The value as the configuration has it, for messages; "" for a command."""
    place: str
    """What a message begins with, such as "proxy.toml: account.alice.password_file"."""


def why_unusable(password: bytes) -> str:
    """Why this cannot be sent in POP3; "" if it can."""
    if not password:
        return "the password is empty"
    if any(octet in password for octet in b"\r\n\0"):
        return "the password holds a line break or a zero octet, which POP3 cannot send"
    return ""
